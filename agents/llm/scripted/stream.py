"""An answer as the pieces of a stream, as OpenAI sends them, and as one piece; with the faults that live in there."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agents.llm.names import to_wire
from agents.llm.scripted.scene import Ask, Move

ANSWER = "answer"
BYTES_A_TOKEN = 4
PIECE_CHARS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function call as it stands in the answer: arguments are JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """id: of the completion; model: the name it is asked by; created: Unix seconds."""

    id: str
    model: str
    created: int
    words: str
    calls: tuple[Call, ...]
    usage: dict[str, Any]

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self.calls else "stop"


def reply(
    move: Move,
    *,
    model: str,
    created: int,
    prompt: str,
    fault: str = "",
    by_function: bool = False,
    counted: Any = None,
) -> Reply:
    """The move as an answer. Faults of the answer happen here.

    by_function: data is asked for as a call of the function `answer`, not as the answer's text; counted: what a scenario
    says of the usage.
    """
    calls = []
    asks, words = move.asks, move.words
    if move.answer is not None and by_function:
        asks = (*asks, Ask(name=ANSWER, arguments=move.answer))
    elif move.answer is not None:
        words = json.dumps(move.answer)
    for ask in asks:
        arguments = {**ask.arguments, **({"reason": ask.reason} if ask.reason else {})}
        calls.append(Call(id=f"call_{uuid.uuid4().hex[:16]}", name=to_wire(ask.name), arguments=json.dumps(arguments)))
    if fault == "badjson" and calls:
        calls[-1] = Call(id=calls[-1].id, name=calls[-1].name, arguments=calls[-1].arguments[:-1])
    elif fault == "unknowntool":
        calls = [Call(id="call_unknown", name="launch__rocket", arguments="{}")]
    elif fault == "badarguments" and calls:
        calls[-1] = Call(id=calls[-1].id, name=calls[-1].name, arguments='{"nonsense": true}')
    elif fault == "mixed":
        end = json.dumps({"success": True, "summary": "done, and not done"})
        calls.append(Call(id="call_end", name="finish", arguments=end))
    elif fault == "plain":
        calls, words = [], "I will do it at once."
    answered = len(words.encode()) + sum(len(call.arguments) for call in calls)
    usage: dict[str, Any] = {
        "prompt_tokens": len(prompt.encode()) // BYTES_A_TOKEN + 1,
        "completion_tokens": answered // BYTES_A_TOKEN + 1,
    }
    given = dict(counted or {})
    cached = given.pop("cached_tokens", None)
    usage |= given
    usage["total_tokens"] = sum(usage.values())
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    return Reply(
        id=f"chatcmpl-{uuid.uuid4().hex}", model=model, created=created, words=words, calls=tuple(calls), usage=usage
    )


def whole(answer: Reply) -> dict[str, Any]:
    """`chat.completion`."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.words}
    if answer.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason, "logprobs": None}
    return {**_head(answer, "chat.completion"), "choices": [choice], "usage": answer.usage}


def events(answer: Reply, *, usage: bool, fault: str = "") -> Iterator[bytes]:
    """The `chat.completion.chunk` events of the answer. `usage`: the client asked for the closing count."""
    yield _event(_chunk(answer, {"role": "assistant", "content": ""}))
    if fault == "huge":
        while True:
            yield _event(_chunk(answer, {"content": "scripted " * 2000}))
    if fault == "errorchunk":
        yield _event({"error": {"message": "scripted error in mid-stream", "type": "server_error"}})
        return
    for start in range(0, len(answer.words), PIECE_CHARS):
        yield _event(_chunk(answer, {"content": answer.words[start : start + PIECE_CHARS]}))
        if fault == "badchunk":
            yield b'data: {"choices": [{"delta"\n\n'
    if fault == "cut":
        return
    for number, call in enumerate(answer.calls):
        index = 0 if fault == "index0" else number
        begin = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield _event(_chunk(answer, {"tool_calls": [begin]}))
        for start in range(0, len(call.arguments), PIECE_CHARS):
            piece = {"index": index, "function": {"arguments": call.arguments[start : start + PIECE_CHARS]}}
            yield _event(_chunk(answer, {"tool_calls": [piece]}))
    reason = {"nofinish": None, "length": "length", "filter": "content_filter"}.get(fault, answer.finish_reason)
    yield _event(_chunk(answer, {}, finish_reason=reason))
    if usage and fault != "nousage":
        yield _event({**_head(answer, "chat.completion.chunk"), "choices": [], "usage": answer.usage})
    yield b"data: [DONE]\n\n"


def _head(answer: Reply, kind: str) -> dict[str, Any]:
    return {"id": answer.id, "object": kind, "created": answer.created, "model": answer.model}


def _chunk(answer: Reply, delta: dict[str, Any], *, finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    return {**_head(answer, "chat.completion.chunk"), "choices": [choice]}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
