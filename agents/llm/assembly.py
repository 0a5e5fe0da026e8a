"""An answer put together from the pieces of a stream, each validated; or taken whole from a server that cannot stream."""

import json
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from agents.llm import refusals
from agents.llm.errors import AnswerTruncated, ContentFiltered, NotAnAnswer, StreamCut
from agents.llm.values import Answer, RawCall, Request, Usage, clean, estimate_tokens

MOST_CALLS = 32


class _Lenient(BaseModel):
    """Servers add fields of their own; those that we read must have the right type."""

    model_config = ConfigDict(extra="ignore", strict=True)


class _Function(_Lenient):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _CallPiece(_Lenient):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Message(_Lenient):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_CallPiece] | None = None


class _Choice(_Lenient):
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None


class _PromptDetails(_Lenient):
    cached_tokens: int | None = None


class _Usage(_Lenient):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Piece(_Lenient):
    choices: list[_Choice]
    model: str | None = None
    usage: _Usage | None = None


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def as_raw(self) -> RawCall:
        return RawCall(id=clean(self.id), name=clean(self.name), arguments=clean("".join(self.arguments)))


class Assembly:
    """Collects one answer. `add` each piece, then `finish`; or `whole` with a completion that came at once."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._content: list[str] = []
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._finish_reason = ""
        self._model = ""
        self._usage: _Usage | None = None

    def add(self, value: object) -> str:
        """Takes one piece; returns the words in it.

        Raises:
            NotAnAnswer: it is no piece of a completion.
            LlmError: it is an error object.
        """
        piece = _validated(value)
        self._model = piece.model or self._model
        self._usage = piece.usage or self._usage
        if not piece.choices:
            return ""
        choice = piece.choices[0]
        self._finish_reason = choice.finish_reason or self._finish_reason
        message = choice.delta or choice.message
        if message is None:
            return ""
        for part in message.tool_calls or ():
            self._add_call(part)
        words = clean((message.content or "") + (message.refusal or ""))
        self._content.append(words)
        return words

    def whole(self, value: object) -> Answer:
        """Raises NotAnAnswer, or what `finish` raises."""
        self.add(value)
        return self.finish()

    def finish(self) -> Answer:
        """The complete answer.

        Raises:
            StreamCut: the model never said why it stopped.
            AnswerTruncated, ContentFiltered: it stopped for another reason than being done. Both carry the usage.
        """
        usage = self._counted()
        if not self._finish_reason:
            raise StreamCut("The answer ended before the model said that it was done.", usage=usage)
        if self._finish_reason == "length":
            limit = self._request.output_tokens
            raise AnswerTruncated(f"The answer did not fit in {limit} tokens (or the model's context).", usage=usage)
        if self._finish_reason == "content_filter":
            raise ContentFiltered("The endpoint's content filter withheld the answer.", usage=usage)
        return Answer(
            content="".join(self._content),
            calls=tuple(one.as_raw() for one in self._calls),
            finish_reason=clean(self._finish_reason),
            model=clean(self._model or self._request.model),
            usage=usage,
        )

    def _add_call(self, part: _CallPiece) -> None:
        """Adds a piece of a tool call.

        A piece belongs to the call of its index; but some servers give every call index 0 or none, and then a new id
        with a name begins the next one.
        """
        function = part.function or _Function()
        index = part.index if part.index is not None else max(len(self._calls) - 1, 0)
        call = self._by_index.get(index)
        begins = call is None or (part.id and function.name and call.id and part.id != call.id)
        if begins:
            if len(self._calls) >= MOST_CALLS:
                raise NotAnAnswer(f"The answer holds more than {MOST_CALLS} tool calls.")
            call = _Call()
            self._calls.append(call)
        assert call is not None
        self._by_index[index] = call
        call.id = call.id or part.id or ""
        if function.name and call.name != function.name:
            call.name += function.name
        if isinstance(function.arguments, dict):
            call.arguments.append(json.dumps(function.arguments))
        elif function.arguments:
            call.arguments.append(function.arguments)

    def _counted(self) -> Usage:
        if self._usage is not None and (self._usage.prompt_tokens or self._usage.completion_tokens):
            prompt, completion = self._usage.prompt_tokens, self._usage.completion_tokens
            details = self._usage.prompt_tokens_details
            cached = max((details.cached_tokens if details else 0) or 0, 0)
            return Usage(prompt_tokens=max(prompt, 0), completion_tokens=max(completion, 0), cached_tokens=cached)
        answered = sum(len(text.encode("utf-8", "replace")) for text in self._content)
        answered += sum(len(text.encode("utf-8", "replace")) for call in self._calls for text in call.arguments)
        return Usage(
            prompt_tokens=estimate_tokens(len(json.dumps(self._request.body()))),
            completion_tokens=estimate_tokens(answered),
            estimated=True,
        )


def _validated(value: object) -> _Piece:
    if isinstance(value, dict) and value.get("error"):
        raise refusals.by_body(value)
    try:
        return _Piece.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise NotAnAnswer(f"The endpoint's answer is no completion: {where}: {first['msg']}") from None
