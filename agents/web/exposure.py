"""What a step read and sent, and where its call comes from, as pages show it. Values are hostile: hidden characters are
written out, the template escapes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agents.models import Step
from agents.provenance import labels
from agents.web.words import readable
from tools.labels import EGRESS, PRIVATE, UNTRUSTED

_WORDS = {
    UNTRUSTED: "brings in what others wrote",
    PRIVATE: "brings in what must not leave",
    EGRESS: "reaches out of this server",
}
_SHORT = {UNTRUSTED: "what others wrote", PRIVATE: "private data", EGRESS: "a way out"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    name: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """labels: of the step; origin: was its call planned before its job read what others wrote, in a sentence, "" where no
    policy asked; warns: that sentence is one to look at; tainted: (argument, value, whose text it is from)."""

    labels: list[Label]
    origin: str
    warns: bool
    tainted: list[tuple[str, str, str]]

    def __bool__(self) -> bool:
        return bool(self.labels or self.origin)


def exposure_of(step: Step) -> Exposure:
    found = labels.of_step(step)
    said = step.provenance if isinstance(step.provenance, dict) else {}
    rows = said.get("tainted")
    tainted = [one for one in rows if isinstance(one, dict)] if isinstance(rows, list) else []
    return Exposure(
        labels=[Label(name=name, words=_WORDS.get(name, "")) for name in sorted(found)],
        origin=_origin(said) if said else "",
        warns=said.get("unplanned") is not False or rows is None,
        tainted=[tuple(readable(str(one.get(name, ""))) for name in ("at", "value", "source")) for one in tainted],  # type: ignore[misc]
    )


def seen_words(seen: Iterable[str]) -> str:
    """The labels that a job has seen, in words."""
    return ", ".join(_SHORT.get(name, name) for name in sorted(seen))


def _origin(said: Mapping[str, Any]) -> str:
    if said.get("unplanned") is None or said.get("tainted") is None:
        return "It cannot be told where this call comes from: its job has read too much."
    if said.get("since") is None:
        return "Before it, the job had read nothing that others wrote."
    if said["unplanned"]:
        return "Nobody planned it before the job read what others wrote."
    return "It was planned before the job read what others wrote."
