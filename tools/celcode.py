"""CEL (Common Expression Language): compiled once, looked at, evaluated.

CEL has no loops without end, no side effects and no access to anything but its variables.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

import cel

LENGTH_MAX = 2000  # characters of one expression
FUNCTIONS = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "type", "duration", "timestamp"}
    | {"string", "int", "uint", "double", "bytes"}
)
INTEGER_MAX = 2**53 - 1  # of JSON, for everybody who reads it
_WHERE = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?(.*)")
_STRING = re.compile(r"""[rRbB]{0,2}(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")""", re.DOTALL)
MACRO = re.compile(r"\.\s*(?:all|exists|exists_one|existsOne|filter|map)\s*\(\s*([A-Za-z_]\w*)\s*,")

Scope = cel.Context


class CelFault(Exception):
    """It could never be evaluated, or its value cannot be had. line, column: from 1; 0 where that is not known."""

    def __init__(self, message: str, *, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.message, self.line, self.column = message, line, column


@lru_cache(maxsize=1024)
def compiled(source: str) -> cel.Program:
    """Raises CelFault: too long, or no CEL."""
    if len(source) > LENGTH_MAX:
        raise CelFault(f"It has more than {LENGTH_MAX} characters.")
    with _faults():
        return cel.compile(source)


def scope(variables: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]] | None = None) -> Scope:
    """The variables, converted once for all expressions of one evaluation. Raises CelFault."""
    with _faults():
        return cel.Context(variables=dict(variables), functions=dict(functions or {}))


def value(source: str, variables: Scope) -> Any:
    """Raises CelFault: it is no CEL, or met a missing or unfitting value."""
    program = compiled(source)
    with _faults():
        return program.execute(variables)


def code(source: str) -> str:
    """The source with its strings blanked out, every character in its place."""
    return _STRING.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), source)


def unknown(
    source: str, names: Collection[str], functions: Collection[str]
) -> Iterator[tuple[Literal["name", "function"], str]]:
    """What the expression uses that is neither there nor bound by its own macros. Raises CelFault: it is no CEL."""
    program = compiled(source)
    known = {*names, *MACRO.findall(code(source))}
    yield from (("name", one) for one in sorted(program.variables()) if one not in known and one.isidentifier())
    for one in sorted(program.functions()):
        if one not in functions and one.isidentifier() and not one.startswith("_"):
            yield "function", one


def as_json(found: Any) -> Any:
    """A CEL value as JSON; times as RFC 3339, durations as seconds. Raises CelFault: it has no JSON form."""
    try:
        return _as_json(found)
    except RecursionError:
        raise CelFault("It gives values too deep within each other.") from None


def _as_json(found: Any) -> Any:
    if found is None or isinstance(found, bool | str):
        return found
    if isinstance(found, int):
        if abs(found) > INTEGER_MAX:
            raise CelFault("It gives a number beyond ±(2^53 - 1).")
        return found
    if isinstance(found, float):
        if not math.isfinite(found):
            raise CelFault("It gives a number that is not finite.")
        return found
    if isinstance(found, list | tuple):
        return [_as_json(one) for one in found]
    if isinstance(found, Mapping):
        if not all(isinstance(name, str) for name in found):
            raise CelFault("It gives an object whose names are not text.")
        return {name: _as_json(one) for name, one in found.items()}
    if isinstance(found, datetime):
        return found.isoformat().replace("+00:00", "Z")
    if isinstance(found, timedelta):
        return found.total_seconds()
    raise CelFault(f"It gives {type(found).__name__}, which is no JSON.")


def truth(found: Any) -> bool:
    """Raises CelFault: it is neither true nor false."""
    if not isinstance(found, bool):
        raise CelFault(f"It gives {type(found).__name__}, not true or false.")
    return found


@contextmanager
def _faults() -> Iterator[None]:
    """Whatever the extension raises, as CelFault. A panic of it is no Exception, and must not get past who asked."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        found = _WHERE.search(str(error))
        if found is not None:
            line, column, message = found.groups()
            raise CelFault(message[:300], line=int(line), column=int(column)) from None
        if isinstance(error, KeyError):
            raise CelFault(f"There is no {error}.") from None
        raise CelFault(str(error)[:300] or type(error).__name__) from None
