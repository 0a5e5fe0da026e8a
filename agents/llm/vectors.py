"""What comes back from `/embeddings`, validated."""

import math
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from agents.llm import refusals
from agents.llm.errors import NotAnAnswer
from agents.llm.values import Usage, clean


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Item(_Lenient):
    index: int
    embedding: list[float]


class _Counted(_Lenient):
    prompt_tokens: int = 0


class _Body(_Lenient):
    data: list[_Item]
    model: str | None = None
    usage: _Counted | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """values: a vector a text, in the texts' order; model: the name that the endpoint gives."""

    values: list[list[float]]
    model: str
    usage: Usage

    @property
    def dimensions(self) -> int:
        return len(self.values[0])


def vectors_of(value: Any, *, count: int, model: str) -> Vectors:
    """Raises NotAnAnswer, or what an error object stands for."""
    if isinstance(value, dict) and value.get("error"):
        raise refusals.by_body(value)
    try:
        body = _Body.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise NotAnAnswer(f"The endpoint's answer holds no vectors: {first['loc']}: {first['msg']}") from None
    found = {one.index: one.embedding for one in body.data}
    if sorted(found) != list(range(count)):
        raise NotAnAnswer(f"The endpoint gave {len(body.data)} vectors for {count} texts.")
    values = [found[index] for index in range(count)]
    lengths = {len(one) for one in values}
    if len(lengths) != 1 or not lengths.pop() or not all(math.isfinite(number) for one in values for number in one):
        raise NotAnAnswer("The endpoint's vectors are not of one length, or not of finite numbers.")
    usage = Usage(prompt_tokens=max(body.usage.prompt_tokens if body.usage else 0, 0), completion_tokens=0)
    return Vectors(values=values, model=clean(body.model or model), usage=usage)
