"""What a job has seen so far, as values: each model turn with the calls it made and how they ended.

Pure: `agents.llm.conversation` reads the rows.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from agents.llm.functions import REASON
from agents.llm.names import to_wire
from agents.states import StepState

OUTPUT_LIMIT_CHARS = 24_000  # of one tool output, in full view
OLD_OUTPUT_LIMIT_CHARS = 400  # of a tool output that had to make room
OLD_ARGUMENT_LIMIT_CHARS = 400
CONVERSATION_LIMIT_CHARS = 240_000
ROOM_AFTER_SHORTENING = 0.6

_STATUS = {
    StepState.CANCELLED: "CANCELLED",
    StepState.SKIPPED: "NOT RUN",
    StepState.IN_DOUBT: "UNKNOWN: nobody can tell whether it happened",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How one tool call ended. result: the step's result as its row holds it, or None."""

    state: str
    error_code: str = ""
    error: str = ""
    result: dict[str, Any] | None = None
    asks_person: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One tool call of a turn, by our dotted tool name."""

    id: str
    name: str
    arguments: dict[str, Any]
    reason: str
    ended: Ended | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    content: str
    calls: list[Made] = field(default_factory=list)


def told(ended: Ended | None, *, limit_chars: int = OUTPUT_LIMIT_CHARS) -> str:
    """The tool message: a first line of ours that says how it ended, with the tool's summary; below it the output.

    The first word is always the verdict. Nothing that a tool or a repository wrote can stand before it.
    """
    if ended is None:
        return "NOT RUN"
    result = ended.result or {}
    text = str(result.get("text") or "")
    body = shorten(text, limit_chars)
    exit_code = result.get("exit_code")
    code = f" (exit code {exit_code})" if isinstance(exit_code, int) else ""
    if ended.state == StepState.SUCCEEDED:
        if ended.asks_person:
            return f"ANSWERED by a person: {text}"
        return "\n".join(part for part in (f"OK{code}: {_line(result.get('summary'))}".rstrip(": "), body) if part)
    if ended.state == StepState.REFUSED:
        return _refused(ended)
    if ended.state == StepState.FAILED:
        return "\n".join(part for part in (f"FAILED{code}: {_line(ended.error) or 'no reason given'}", body) if part)
    return f"{_STATUS.get(StepState(ended.state), 'NOT RUN')}: {ended.error}".rstrip(": ")


def shorten(text: str, limit_chars: int) -> str:
    """Head and tail of `text`, and how much was left out between them."""
    if len(text) <= limit_chars:
        return text
    head = limit_chars * 2 // 3
    left_out = f"[… {len(text) - limit_chars} characters left out; ask again for the part that you need …]"
    return f"{text[:head]}\n{left_out}\n{text[head - limit_chars :]}"


def messages(turns: list[Turn], *, limit_chars: int = CONVERSATION_LIMIT_CHARS) -> list[dict[str, Any]]:
    """The turns as chat messages, bounded.

    When the limit is passed, the oldest turns give up long outputs and arguments until there is room again for a
    while. The walk is always the same from the start, so a conversation that grows keeps its prefix between two such
    moments, and endpoints can reuse what they computed for it.
    """
    shown: list[list[dict[str, Any]]] = []
    sizes: list[int] = []
    shortened = 0
    for turn in turns:
        full = _turn_messages(turn, old=False)
        shown.append(full)
        sizes.append(_size(full))
        if sum(sizes) <= limit_chars:
            continue
        # The newest turn stays whole: it is what the model is about to answer.
        while shortened < len(shown) - 1 and sum(sizes) > limit_chars * ROOM_AFTER_SHORTENING:
            shown[shortened] = _turn_messages(turns[shortened], old=True)
            sizes[shortened] = _size(shown[shortened])
            shortened += 1
    return [message for one in shown for message in one]


def whole(turns: list[Turn]) -> list[dict[str, Any]]:
    """The turns as chat messages, with nothing shortened for want of room."""
    return [message for turn in turns for message in _turn_messages(turn, old=False)]


def call_message(content: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """The assistant's message. Some servers refuse an empty `tool_calls`, others a missing `content`."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = calls
    return message


def call_json(id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(arguments, ensure_ascii=False, sort_keys=True)
    return {"id": id, "type": "function", "function": {"name": to_wire(name), "arguments": text}}


def tool_message(call_id: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def _line(text: object) -> str:
    return " ".join(str(text or "").split())


def _refused(ended: Ended) -> str:
    if ended.error_code == "denied":
        return f"REFUSED by people: {ended.error or 'no reason given'}"
    if ended.error_code == "approval_expired":
        return "REFUSED by people: nobody answered in time"
    if ended.error_code == "policy_denied":
        return f"REFUSED by policy: {ended.error or 'no published policy allows it'}"
    return f"REFUSED by the tool: {ended.error or ended.error_code}"


def _turn_messages(turn: Turn, *, old: bool) -> list[dict[str, Any]]:
    limit = OLD_OUTPUT_LIMIT_CHARS if old else OUTPUT_LIMIT_CHARS
    calls = [call_json(one.id, one.name, _arguments(one, old=old)) for one in turn.calls]
    answers = [tool_message(one.id, told(one.ended, limit_chars=limit)) for one in turn.calls]
    return [call_message(turn.content, calls), *answers]


def _arguments(made: Made, *, old: bool) -> dict[str, Any]:
    arguments = {
        name: shorten(value, OLD_ARGUMENT_LIMIT_CHARS) if old and isinstance(value, str) else value
        for name, value in made.arguments.items()
    }
    if made.reason and REASON not in arguments:
        arguments[REASON] = made.reason
    return arguments


def _size(group: list[dict[str, Any]]) -> int:
    return sum(len(json.dumps(message, ensure_ascii=False)) for message in group)
