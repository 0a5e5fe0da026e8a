"""What the script sees of a conversation: the goal, the functions, and what came of the calls so far."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.llm.names import to_wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One ended call. status: the first word of its result (OK, FAILED, REFUSED …); line: the rest of that line;
    text: the output below it; at: its place among all calls."""

    at: int
    name: str
    arguments: dict[str, Any]
    status: str
    line: str
    text: str

    @property
    def ok(self) -> bool:
        return self.status == "OK"

    @property
    def refused_by(self) -> str:
        """Who refused: "people", "policy" or "the tool"; "" where nobody did."""
        if self.status != "REFUSED":
            return ""
        return self.line.removeprefix("by ").partition(":")[0]

    @property
    def why(self) -> str:
        """The reason behind the colon, with the lines that follow it."""
        return "\n".join(part for part in (self.line.partition(":")[2].strip(), self.text) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A call that the script makes, by dotted name."""

    name: str
    arguments: dict[str, Any]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """The script's next answer: words, and calls. answer: data instead, in whatever way it was asked for."""

    words: str
    asks: tuple[Ask, ...] = ()
    answer: dict[str, Any] | None = None


@dataclass(slots=True)
class Scene:
    """goal, message: the first and the last thing that the user said; functions: name as the model sees it -> its JSON
    schema; schema: of the answer that is asked for; turn: which answer this is, from 1; fresh: the user has just said something."""

    goal: str
    message: str = ""
    system: str = ""
    model: str = ""
    turn: int = 1
    schema: dict[str, Any] | None = None
    functions: dict[str, dict[str, Any]] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)
    repairing: bool = False
    fresh: bool = False

    def has(self, name: str) -> bool:
        return to_wire(name) in self.functions

    def all(self, name: str) -> list[Done]:
        return [one for one in self.done if one.name == name]

    def last(self, name: str) -> Done | None:
        return next((one for one in reversed(self.done) if one.name == name), None)

    def after(self, mark: Done | None) -> list[Done]:
        """What came after `mark`; everything where it is None."""
        return self.done[mark.at + 1 :] if mark is not None else list(self.done)


def read(body: dict[str, Any]) -> Scene:
    """The scene of a request's JSON body. Tolerates what it does not know."""
    messages = [one for one in body.get("messages") or [] if isinstance(one, dict)]
    goal = next((_text(one) for one in messages if one.get("role") == "user"), "")
    functions = {
        str(tool["function"]["name"]): dict(tool["function"].get("parameters") or {})
        for tool in body.get("tools") or []
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict) and tool["function"].get("name")
    }
    said = [_text(one) for one in messages if one.get("role") == "user"]
    scene = Scene(
        goal=goal,
        message=said[-1] if said else "",
        system=next((_text(one) for one in messages if one.get("role") == "system"), ""),
        model=str(body.get("model", "")),
        turn=1 + sum(one.get("role") == "assistant" for one in messages),
        schema=_schema(body, functions),
        functions=functions,
        repairing=_repairing(messages),
        fresh=bool(messages) and messages[-1].get("role") == "user",
    )
    calls: dict[str, tuple[str, dict[str, Any]]] = {}
    for message in messages:
        if message.get("role") == "assistant":
            for call in message.get("tool_calls") or []:
                function = call.get("function") or {}
                calls[str(call.get("id"))] = (str(function.get("name")), arguments_of(function.get("arguments")))
        elif message.get("role") == "tool" and not _complaint(_text(message)):
            name, arguments = calls.get(str(message.get("tool_call_id")), ("", {}))
            scene.done.append(done(len(scene.done), name, arguments, _text(message)))
    return scene


def _schema(body: dict[str, Any], functions: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Of the answer: from `response_format`, or of the one function `answer`."""
    given = body.get("response_format")
    if isinstance(given, dict) and given.get("type") == "json_schema":
        return dict((given.get("json_schema") or {}).get("schema") or {})
    if isinstance(given, dict) and given.get("type") == "json_object":
        return {}
    return functions.get("answer") if set(functions) == {"answer"} else None


def _repairing(messages: Sequence[dict[str, Any]]) -> bool:
    """Is the end of the conversation a complaint about the last answer?"""
    for message in reversed(messages):
        if message.get("role") == "assistant":
            return False
        if _complaint(_text(message)):
            return any(one.get("role") == "assistant" for one in messages)
    return False


def _complaint(text: str) -> bool:
    return text.startswith(("INVALID:", "NOT RUN: another call of this answer", "Note of the server:"))


def done(at: int, wire: str, arguments: dict[str, Any], content: str) -> Done:
    """A call's result as the server words it: how it ended in the first line, the output below."""
    first, _, text = content.partition("\n")
    status, _, line = first.partition(" ")
    arguments = {key: value for key, value in arguments.items() if key != "reason"}
    return Done(
        at=at,
        name=wire.replace("__", "."),
        arguments=arguments,
        status=status.rstrip(":"),
        line=line.strip(),
        text=text,
    )


def arguments_of(text: object) -> dict[str, Any]:
    try:
        value = json.loads(str(text))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
