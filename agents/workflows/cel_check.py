"""What a definition's expressions and templates name and get wrong, every one of them."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from agents.engine.celtext import OPEN, Code, InvalidExpression, check, parts, templated
from tools.celcode import code

__all__ = ["ITEM_DONE", "JOB", "MAP_ITEM", "STEP", "Findings", "expression", "template", "templated"]

STEP, JOB = frozenset({"inputs", "steps", "job"}), frozenset({"inputs", "job"})
MAP_ITEM = STEP | {"item", "index"}
ITEM_DONE = MAP_ITEM | {"result"}  # what undoes an item also reads what came of it

_INPUT = re.compile(r"(?<![\w.])inputs\s*\.\s*([A-Za-z_]\w*)(?!\w)(?!\s*\()")


@dataclass(slots=True)
class Findings:
    """problems: what is wrong; steps, inputs: the names that are read."""

    problems: list[str] = field(default_factory=list)
    steps: set[str] = field(default_factory=set)
    inputs: set[str] = field(default_factory=set)

    def add(self, other: "Findings") -> None:
        self.problems += other.problems
        self.steps |= other.steps
        self.inputs |= other.inputs


def expression(source: str, names: Collection[str]) -> Findings:
    """One CEL expression over `names`."""
    try:
        steps = check(source, names)
    except InvalidExpression as error:
        return Findings(problems=[error.message])
    return Findings(steps=set(steps), inputs=set(_INPUT.findall(code(source))))


def template(value: Any, names: Collection[str]) -> Iterator[tuple[tuple[str | int, ...], Findings]]:
    """Each text of `value` that holds templates, by its path within it."""
    if isinstance(value, str):
        if OPEN in value:
            yield (), _text(value, names)
    elif isinstance(value, dict):
        for name, one in value.items():
            if OPEN in name:
                yield (name,), Findings(problems=["A name cannot be a template."])
            for path, found in template(one, names):
                yield (name, *path), found
    elif isinstance(value, list):
        for index, one in enumerate(value):
            for path, found in template(one, names):
                yield (index, *path), found


def _text(text: str, names: Collection[str]) -> Findings:
    found = Findings()
    try:
        for part in parts(text):
            if isinstance(part, Code):
                found.add(expression(part.text, names))
    except InvalidExpression as error:
        found.problems.append(error.message)
    return found
