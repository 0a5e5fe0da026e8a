"""The text of CEL expressions and of `${{ … }}` templates: what can be said of it before anything runs."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cel

from agents.errors import InvalidInput
from tools import celcode
from tools.celcode import LENGTH_MAX, MACRO, CelFault, code

NAMES = frozenset({"inputs", "steps", "job"})
FUNCTIONS = celcode.FUNCTIONS | {"has", "bool", "dyn", "min", "max"}
OPEN, _CLOSE = "${{", "}}"
_ROOT = re.compile(r"(?<![\w.])steps(?!\w)")
_STEP = re.compile(
    r"""(?<![\w.])steps\s*(?:\.\s*([A-Za-z_]\w*)(?!\w)(?!\s*\()|\[\s*(?:'([^'\\\n]*)'|"([^"\\\n]*)")\s*\])"""
)


class InvalidExpression(InvalidInput):
    """It could never be evaluated: syntax, an unknown name or function, too long."""

    code = "invalid_expression"


def check(text: str, names: Collection[str] = NAMES, functions: Collection[str] = FUNCTIONS) -> frozenset[str]:
    """Refuses an expression that could never be evaluated; the keys of the steps that it names.

    names: the variables that it may use, such as {"inputs", "steps", "job"}; functions: what it may call.

    Raises:
        InvalidExpression: syntax, an unknown name or function, too long, macros too deep in each other.
    """
    if not text.strip():
        raise InvalidExpression("The expression is empty.")
    if len(text) > LENGTH_MAX:
        raise InvalidExpression(f"An expression has at most {LENGTH_MAX} characters.")
    program = compiled(text)
    for kind, name in celcode.unknown(text, names, functions):
        seen = f": there are {', '.join(sorted(names))} here" if kind == "name" else ""
        raise InvalidExpression(f"Unknown {kind} {name!r}{seen}.")
    if macros(text)[0] > 2:
        raise InvalidExpression("Macros (map, filter, all, exists) may lie in each other two deep, not deeper.")
    return (steps_of(text) or frozenset()) if "steps" in program.variables() else frozenset()


def check_template(value: Any, names: Collection[str] = NAMES, path: str = "") -> frozenset[str]:
    """Checks every expression of a template; the keys of the steps that they name.

    Raises:
        InvalidExpression: `field` is the path within the template, after `path`.
    """
    found: set[str] = set()
    for where, text in texts(value, path):
        try:
            for one in parts(text):
                if isinstance(one, Code):
                    found |= check(one.text, names)
        except InvalidExpression as error:
            raise InvalidExpression(error.message, field=where) from None
    return frozenset(found)


def templated(value: Any) -> bool:
    """Does any text within hold an expression?"""
    return any(True for _ in texts(value, ""))


@dataclass(frozen=True, slots=True)
class Code:
    text: str


def parts(text: str) -> list[str | Code]:
    """Text and expressions in turn. Raises InvalidExpression: one is never closed."""
    found: list[str | Code] = []
    at = 0
    while (begin := text.find(OPEN, at)) >= 0:
        end = text.find(_CLOSE, begin)
        if end < 0:
            raise InvalidExpression("A ${{ is never closed by }}.")
        if begin > at:
            found.append(text[at:begin])
        found.append(Code(text[begin + len(OPEN) : end].strip()))
        at = end + len(_CLOSE)
    if at < len(text):
        found.append(text[at:])
    return found


def texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if OPEN in value:
            yield path, value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from texts(one, f"{path}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from texts(one, f"{path}[{index}]")


def compiled(source: str) -> cel.Program:
    """Raises InvalidExpression, with the place of the first fault."""
    try:
        return celcode.compiled(source)
    except CelFault as error:
        place = (
            f"line {error.line}, column {error.column} of the expression"
            if error.line > 1
            else f"column {error.column}"
        )
        where = f", at {place}" if error.line else ""
        raise InvalidExpression(f"This is no CEL{where}: {error.message}") from None


def filled(text: str, value: Callable[[str], Any], as_text: Callable[[Any], str]) -> Any:
    """A text with each of its expressions replaced; one that is a single expression becomes the value itself.

    Raises:
        InvalidExpression: one is never closed.
    """
    found = parts(text)
    if len(found) == 1 and isinstance(found[0], Code):
        return value(found[0].text)
    return "".join(one if isinstance(one, str) else as_text(value(one.text)) for one in found)


@lru_cache(maxsize=1024)
def steps_of(source: str) -> frozenset[str] | None:
    """The keys of the steps that an expression names; None: it does not name them."""
    named = list(_STEP.finditer(source))
    starts = {one.start() for one in _ROOT.finditer(code(source))}
    inside = [one for one in named if one.start() in starts]
    if len(inside) < len(starts):
        return None
    return frozenset(one[1] or one[2] or one[3] for one in inside)


@lru_cache(maxsize=1024)
def macros(source: str) -> tuple[int, bool, int]:
    """How deep macros lie in each other, whether a body reads more than what it binds, and by how much bodies multiply
    what they bind."""
    bare = code(source)
    spans, outer, growth = [], False, 1
    roots = "|".join(re.escape(name) for name in compiled(source).variables() if name.isidentifier())
    for found in MACRO.finditer(bare):
        end = _closing(bare, bare.index("(", found.start()))
        body = bare[found.end() : end]
        spans.append((found.start(), end))
        growth *= max(1, len(re.findall(rf"(?<![\w.]){re.escape(found[1])}(?!\w)", body)))
        others = set(re.findall(rf"(?<![\w.])(?:{roots})(?!\w)", body)) if roots else set()
        outer = outer or bool(others - set(MACRO.findall(bare)))
    depth = max((sum(a <= start and end <= b for a, b in spans) for start, end in spans), default=0)
    return depth, outer, growth


def _closing(bare: str, at: int) -> int:
    level = 0
    for place in range(at, len(bare)):
        level += (bare[place] == "(") - (bare[place] == ")")
        if level == 0:
            return place
    return len(bare)
