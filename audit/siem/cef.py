"""Records as ArcSight Common Event Format, version 0: one line each.

In the header `\\` and `|` are escaped, in the extension `\\`, `=` and line ends, as the format's guide has it.
"""

from audit.siem.severity import Severity, severity
from audit.siem.source import Sequenced

_NUMBERS = {Severity.INFORMATIONAL: 1, Severity.LOW: 4, Severity.MEDIUM: 6, Severity.HIGH: 9}  # of 0 to 10


def line(record: Sequenced, *, version: str) -> str:
    """One record, without a line end. version: of this product."""
    facts = record.facts
    context = facts.get("context") or {}
    actor, target = facts["actor"], facts["target"]
    header = ["CEF:0", "Countersign", "Countersign", version, facts["event"], _name(str(facts["event"]))]
    extension = {
        "rt": str(record.time_ms),
        "externalId": facts["id"],
        "suid": f"{actor['type']}:{actor['id']}",
        "outcome": facts["outcome"],
        "act": facts["event"],
        "cs1Label": "target",
        "cs1": f"{target['type']}:{target['id']}",
        "cs2Label": "job",
        "cs2": context.get("job") or context.get("parent") or "",
        "cs3Label": "tool",
        "cs3": context.get("tool") or "",
        "cs4Label": "policy",
        "cs4": f"{context.get('policy', '')} {context.get('rule', '')}".strip(),
        "cs5Label": "onBehalfOf",
        "cs5": actor.get("on_behalf_of") or "",
        "cs6Label": "signature",
        "cs6": f"{record.kid}:{record.signature}",
        "cn1Label": "index",
        "cn1": str(record.index),
    }
    shown = {name: value for name, value in extension.items() if _said(name, extension)}
    pairs = " ".join(f"{name}={_extension(str(value))}" for name, value in shown.items())
    return "|".join([*map(_header, header), str(_NUMBERS[severity(facts)]), pairs])


def _said(name: str, extension: dict[str, str]) -> bool:
    """A label without its value says nothing."""
    return bool(extension[name.removesuffix("Label")])


def _name(event: str) -> str:
    subject, _, verb = event.partition(".")
    return f"{subject} {verb.replace('_', ' ')}".strip()


def _header(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\r", " ").replace("\n", " ")


def _extension(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("=", "\\=")
    return escaped.replace("\r", "\\r").replace("\n", "\\n")
