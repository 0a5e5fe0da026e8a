"""Data of a given shape from a model: in the best way that its endpoint knows, and back to one form.

In order: a JSON Schema that the endpoint holds the model to; a function to call; a JSON object; plain words. Whatever
comes is checked by the caller: none of them can be relied on.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any

from agents.llm.values import Answer, RawCall
from agents.models import Capability

ANSWER = "answer"
_FENCE = re.compile(r"\A\s*```[a-zA-Z]*\n(.*?)\n?```\s*\Z", re.DOTALL)


class Mode(StrEnum):
    SCHEMA = "json_schema"
    FUNCTION = "function"
    OBJECT = "json_object"
    WORDS = "words"


def modes(capabilities: Collection[str]) -> list[Mode]:
    """What to try with an endpoint that can do this, best first; where one is refused the next is tried."""
    known = {Capability.JSON_SCHEMA: Mode.SCHEMA, Capability.TOOLS: Mode.FUNCTION, Capability.JSON_OBJECT: Mode.OBJECT}
    return [*(mode for capability, mode in known.items() if capability in capabilities), Mode.WORDS]


def asked(messages: list[dict[str, Any]], schema: Mapping[str, Any], mode: Mode) -> list[dict[str, Any]]:
    """The conversation, whose first question says how to answer."""
    how = f"Give your answer by calling {ANSWER}."
    if mode is Mode.SCHEMA:
        how = "Answer with one JSON object of the given schema, and nothing else."
    elif mode is not Mode.FUNCTION:
        told = json.dumps(schema, ensure_ascii=False)
        how = f"Answer with one JSON object, and nothing else. It must be valid by this JSON Schema:\n{told}"
    first = next(place for place, one in enumerate(messages) if one["role"] == "user")
    changed = {**messages[first], "content": f"{messages[first]['content']}\n\n{how}"}
    return [*messages[:first], changed, *messages[first + 1 :]]


def offer(schema: Mapping[str, Any], mode: Mode) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """(tools, response_format) of the request: at most one of them."""
    if mode is Mode.FUNCTION:
        described = {"name": ANSWER, "description": "Gives the answer. Call it once.", "parameters": dict(schema)}
        return [{"type": "function", "function": described}], None
    if mode is Mode.SCHEMA:
        return [], {"type": "json_schema", "json_schema": {"name": ANSWER, "schema": dict(schema)}}
    return [], {"type": "json_object"} if mode is Mode.OBJECT else None


def read(answer: Answer, mode: Mode) -> Answer:
    """The answer with its data as one call of `answer`, however it came."""
    if mode is Mode.FUNCTION or answer.calls or not answer.content.strip():
        return answer
    fenced = _FENCE.match(answer.content)
    text = fenced[1] if fenced else answer.content.strip()
    if mode is Mode.WORDS and not text.startswith("{") and "{" in text:
        text = text[text.index("{") : text.rindex("}") + 1] if "}" in text else text
    return replace(answer, calls=(RawCall(id="", name=ANSWER, arguments=text),), as_text=True)
