"""The feed as a log to read: entries become lines, neighbouring lines of one source become blocks. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from agents.models import FeedEntry
from agents.states import StepState
from agents.web.labels import JOB_LABELS, STEP_LABELS
from agents.web.words import readable

# Of a step's states, those that a reader of the log wants to see pass by.
_TOLD = frozenset(StepState) - {StepState.PENDING, StepState.READY, StepState.QUEUED}
LINE_LIMIT_CHARS = 64 * 1024

StepNames = Mapping[UUID, tuple[str, str]]  # id -> (key, tool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One entry. kind: `log`, `token` (a model's words as they come), `note`, `state`; state: the step's or job's new
    state, where there is one; step: its key, "" for the job itself. `text` holds no hidden characters."""

    seq: int
    kind: str
    step: str
    tool: str
    stream: str
    attempt: int
    state: str
    text: str
    at: str

    @property
    def source(self) -> str:
        """Lines with the same source follow each other in one block."""
        return "" if self.kind == "state" else f"{self.step}/{self.attempt}/{self.kind}/{self.stream}"

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*self.__slots__, "source")}


@dataclass(slots=True)
class Block:
    """Lines of one source, joined."""

    line: Line
    text: str
    last_seq: int


def line(entry: FeedEntry, names: StepNames) -> Line:
    """The entry as a line; its text is "" where the log has nothing to tell (the page may still want to know)."""
    data: Mapping[str, Any] = entry.data if isinstance(entry.data, dict) else {}
    key, tool = names.get(entry.step_id, ("", "")) if entry.step_id is not None else ("", "")
    kind, state = entry.kind, ""
    text = str(data.get("text") or "")[:LINE_LIMIT_CHARS]
    if entry.kind in {"step", "job"}:
        kind, state = "state", str(data.get("state") or "")
        key, tool = str(data.get("key") or key), str(data.get("tool") or tool)
        text = _told(entry.kind, state, tool)
    attempt = data.get("attempt")
    return Line(
        seq=entry.seq,
        kind=kind,
        step=readable(key),
        tool=readable(tool),
        stream=str(data.get("stream") or "")[:16] if entry.kind == "log" else "",
        attempt=attempt if isinstance(attempt, int) else 0,
        state=state,
        text=readable(text),
        at=entry.at.strftime("%H:%M:%S"),
    )


def _told(kind: str, state: str, tool: str) -> str:
    if kind == "job":
        return f"job {JOB_LABELS.get(state, state)}"  # type: ignore[call-overload]
    if state not in _TOLD:
        return ""
    return f"{tool} {STEP_LABELS[StepState(state)]}"


def blocks(lines: Iterable[Line]) -> list[Block]:
    """What a page shows: lines with a text, neighbours of one source joined."""
    made: list[Block] = []
    for one in lines:
        if made and one.source and made[-1].line.source == one.source:
            made[-1].text += one.text
            made[-1].last_seq = one.seq
        elif one.text:
            made.append(Block(one, one.text, one.seq))
    return made
