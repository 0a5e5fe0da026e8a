"""What differs between what people were asked before and what they are asked now."""

import difflib
import json
from typing import Any

from approvals.models import ApprovalRequest

VALUE_MAX, CHANGES_MAX = 200, 30
_MISSING = object()


def words(old: ApprovalRequest, new: ApprovalRequest) -> list[str]:
    """Each difference in a sentence, the reason why the old one counts for nothing first."""
    found = [old.answer] if old.answer else []
    before, after = old.call, new.call
    if before["tool"] != after["tool"]:
        found.append(f"Tool: was {before['tool']}, is {after['tool']}.")
    if before["schema_version"] != after["schema_version"]:
        found.append(f"The tool itself: was version {before['schema_version']}, is version {after['schema_version']}.")
    found += _fields("Argument", before.get("arguments") or {}, after.get("arguments") or {})
    found += _fields("Target", before.get("target_state") or {}, after.get("target_state") or {})
    found += _fields("Constraint", before.get("constraints") or {}, after.get("constraints") or {})
    if (str(old.policy_version_id), old.rule) != (str(new.policy_version_id), new.rule):
        found.append(f"Policy: was {_rule(old)}, is {_rule(new)}.")
    if old.approvers_id != new.approvers_id or old.quorum != new.quorum or old.roles != new.roles:
        found.append("Who must agree is not the same.")
    if old.risk != new.risk:
        found.append(f"Risk: was {old.risk}, is {new.risk}.")
    if old.preview != new.preview:
        lines = [line for line in preview_diff(old, new) if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        found.append(
            f"Preview: {len(lines)} line{'s' if len(lines) != 1 else ''} differ{'' if len(lines) != 1 else 's'}."
        )
    if len(found) > CHANGES_MAX:
        found = [*found[:CHANGES_MAX], f"And {len(found) - CHANGES_MAX} more."]
    return found


def preview_diff(old: ApprovalRequest, new: ApprovalRequest) -> list[str]:
    """The previews as a unified diff, line by line; empty where they are the same."""
    return list(
        difflib.unified_diff(old.preview.splitlines(), new.preview.splitlines(), "before", "now", n=2, lineterm="")
    )


def _fields(what: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    found = []
    for name in sorted({*before, *after}):
        was, now = before.get(name, _MISSING), after.get(name, _MISSING)
        if was == now:
            continue
        if was is _MISSING:
            found.append(f"{what} {name}: new, {_shown(now)}.")
        elif now is _MISSING:
            found.append(f"{what} {name}: was {_shown(was)}, is gone.")
        else:
            found.append(f"{what} {name}: was {_shown(was)}, is {_shown(now)}.")
    return found


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= VALUE_MAX else f"{text[: VALUE_MAX - 1]}…"


def _rule(request: ApprovalRequest) -> str:
    return f"{request.policy_version or 'none'} rule {request.rule or 'none'}"
