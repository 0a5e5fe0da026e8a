"""A model's answer is untrusted text: read into calls of known tools with valid arguments, or told why not."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.llm.functions import DANGER, FINISH, REASON, takes_danger, takes_reason
from agents.llm.names import from_wire
from agents.llm.transcript import call_message, tool_message
from agents.llm.values import Answer, RawCall
from audit.canonical import canonical_json
from audit.errors import AuditError
from tools import registry
from tools.errors import InvalidArguments, ToolRefused
from tools.spec import Tool

ARGUMENTS_LIMIT_BYTES = 512 * 1024
REASON_LIMIT_CHARS = 2000
CONTENT_LIMIT_CHARS = 100_000
SUMMARY_LIMIT_CHARS = 20_000
ECHO_LIMIT_CHARS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A call that the model asks for: our tool, valid arguments, its reason, and how dangerous it thinks that is."""

    id: str
    name: str
    arguments: dict[str, Any]
    reason: str
    danger: str = ""

    def as_json(self) -> dict[str, Any]:
        known = {"id": self.id, "name": self.name, "arguments": self.arguments, "reason": self.reason}
        return {**known, "danger": self.danger} if self.danger else known


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the answer comes to. problems: (call id, why) for what is wrong, empty where it can be used."""

    content: str
    wishes: tuple[Wish, ...] = ()
    finish: dict[str, Any] | None = None
    problems: tuple[tuple[str, str], ...] = ()


def judge(answer: Answer, tools: Sequence[Tool], *, turn: int, round: int = 0, talking: bool = False) -> Verdict:
    """Reads an answer. Where any call is wrong, none is used: the model must decide anew with all of them in view.

    talking: words without a call are an answer, as in a conversation.
    """
    content = answer.content[:CONTENT_LIMIT_CHARS]
    by_name = {tool.name: tool for tool in tools}
    wishes: list[Wish] = []
    finishes: list[dict[str, Any]] = []
    problems: list[tuple[str, str]] = []
    for call_id, raw in with_ids(answer.calls, turn=turn, round=round):
        try:
            arguments = _arguments(raw.arguments)
            if raw.name == FINISH:
                finishes.append(_finish(arguments))
                continue
            wishes.append(_wish(call_id, raw.name, arguments, by_name))
        except _Wrong as wrong:
            problems.append((call_id, str(wrong)))
    if finishes and not problems and (wishes or len(finishes) > 1):
        problems.append(("", f"{FINISH} must be the only call of its answer."))
    if not answer.calls and talking and content.strip() and "\0" not in content:
        finishes.append({"success": True, "summary": content.strip()})
    elif not answer.calls:
        problems.append(("", f"You called no function. Call one; when the job is done, call {FINISH}."))
    if problems:
        return Verdict(content=content, problems=tuple(problems))
    return Verdict(content=content, wishes=tuple(wishes), finish=finishes[0] if finishes else None)


def repair_messages(answer: Answer, verdict: Verdict, *, turn: int, round: int = 0) -> list[dict[str, Any]]:
    """The answer as it came, and what is wrong with it: appended to the conversation for one more try."""
    wrong = dict(verdict.problems)
    calls, answers = [], []
    for call_id, raw in with_ids(answer.calls, turn=turn, round=round):
        # Arguments that are no JSON object go back as text in our words: servers that render them would fail.
        arguments, echo = raw.arguments, ""
        try:
            _arguments(raw.arguments)
        except _Wrong:
            arguments, echo = "{}", f" You wrote: {raw.arguments[:ECHO_LIMIT_CHARS]}"
        name = _echoed_name(raw.name)
        calls.append({"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}})
        if call_id in wrong:
            text = f"INVALID: {wrong[call_id]}{echo}"
        else:
            text = "NOT RUN: another call of this answer is invalid. Send all calls again."
        answers.append(tool_message(call_id, text))
    general = wrong.get("")
    messages = [call_message(verdict.content, calls), *answers]
    if general is not None:
        messages.append({"role": "user", "content": f"Note of the server: {general}"})
    return messages


def with_ids(calls: Sequence[RawCall], *, turn: int, round: int = 0) -> list[tuple[str, RawCall]]:
    """Each call with an id that is short, printable and its own; the model's where it is so."""
    seen: set[str] = set()
    named = []
    for number, raw in enumerate(calls, start=1):
        call_id = raw.id
        if not (0 < len(call_id) <= 64 and call_id.isascii() and call_id.isprintable()) or call_id in seen:
            call_id = f"call_{turn}_{round}_{number}"
        seen.add(call_id)
        named.append((call_id, raw))
    return named


class _Wrong(Exception):
    """Why a call cannot be used, in words for the model."""


def _arguments(text: str) -> dict[str, Any]:
    if len(text.encode("utf-8", "replace")) > ARGUMENTS_LIMIT_BYTES:
        raise _Wrong(f"The arguments are larger than {ARGUMENTS_LIMIT_BYTES} bytes.")
    try:
        value = json.loads(text or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _Wrong(f"The arguments are not valid JSON ({error}).") from None
    if not isinstance(value, dict):
        raise _Wrong("The arguments must be a JSON object.")
    if "\0" in text or ("\\u0000" in text and _holds_nul(value)):
        raise _Wrong("The arguments hold a NUL character.")
    try:
        # Whatever is accepted here gets a digest, a signature and a row.
        canonical_json(value)
    except AuditError as error:
        raise _Wrong(f"The arguments cannot be used: {error}") from None
    return value


def _wish(call_id: str, wire: str, arguments: dict[str, Any], by_name: Mapping[str, Tool]) -> Wish:
    name = from_wire(wire, by_name)
    if name is None:
        raise _Wrong(f"There is no function {wire[:80]!r}. Use the functions you were given.")
    tool = by_name[name]
    reason = ""
    if takes_reason(tool):
        reason = str(arguments.pop(REASON, None) or "")[:REASON_LIMIT_CHARS]
    danger = str(arguments.pop(DANGER, None) or "") if takes_danger(tool) else ""
    try:
        registry.validate(tool, arguments)
    except InvalidArguments as error:
        raise _Wrong(f"{error.field}: {error.message}"[:ECHO_LIMIT_CHARS]) from None
    except ToolRefused as error:
        raise _Wrong(f"The tool does not take this: {error.message}"[:ECHO_LIMIT_CHARS]) from None
    return Wish(id=call_id, name=name, arguments=arguments, reason=reason, danger=danger)


def _finish(arguments: dict[str, Any]) -> dict[str, Any]:
    success, summary = arguments.get("success"), arguments.get("summary")
    if not isinstance(success, bool) or not isinstance(summary, str) or not summary.strip():
        raise _Wrong(f"{FINISH} takes success (true or false) and summary (text, not empty).")
    return {"success": success, "summary": summary[:SUMMARY_LIMIT_CHARS]}


def _echoed_name(name: str) -> str:
    kept = "".join(char for char in name if char.isascii() and (char.isalnum() or char in "_-"))
    return kept[:64] or "unknown"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(one) for pair in value.items() for one in pair)
    if isinstance(value, list):
        return any(_holds_nul(one) for one in value)
    return False
