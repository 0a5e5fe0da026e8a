"""What can be said of CEL expressions and `${{ … }}` templates before anything runs."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import cel

FUNCTIONS = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "type", "duration", "timestamp", "has"}
    | {"string", "int", "uint", "double", "bytes", "bool", "dyn", "min", "max"}
)
STEP, JOB = frozenset({"inputs", "steps", "job"}), frozenset({"inputs", "job"})
MAP_ITEM = STEP | {"item", "index"}

_OPEN, _CLOSE = "${{", "}}"
_WHERE = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?(.*)")
_STRING = re.compile(r"""[rRbB]{0,2}(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")""", re.DOTALL)
_BOUND = re.compile(r"\.\s*(?:all|exists|exists_one|existsOne|filter|map)\s*\(\s*([A-Za-z_]\w*)\s*,")
_STEP_FIELD = re.compile(r"(?<![\w.])steps\s*\.\s*([A-Za-z_]\w*)(?!\w)(?!\s*\()")
_STEP_INDEX = re.compile(r"""(?<![\w.])steps\s*\[\s*(?:'([^'\\\n]*)'|"([^"\\\n]*)")\s*\]""")
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
    found = Findings()
    if not source.strip():
        found.problems.append("The expression is empty.")
        return found
    try:
        program = cel.compile(source)
    except BaseException as error:  # a panic of the extension is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
            raise
        found.problems.append(_syntax(str(error)))
        return found
    code = _STRING.sub(lambda text: re.sub(r"[^\n]", " ", text.group()), source)
    bound = set(_BOUND.findall(code))
    for name in sorted(program.variables()):
        if name not in names and name not in bound and name.isidentifier():
            found.problems.append(f"Unknown name {name!r}: there are {', '.join(sorted(names))} here.")
    for name in sorted(program.functions()):
        if name.isidentifier() and not name.startswith("_") and name not in FUNCTIONS:
            found.problems.append(f"Unknown function {name!r}.")
    if "steps" not in bound:
        found.steps |= set(_STEP_FIELD.findall(code))
        found.steps |= {one or two for one, two in _STEP_INDEX.findall(source)}
    if "inputs" not in bound:
        found.inputs |= set(_INPUT.findall(code))
    return found


def template(value: Any, names: Collection[str]) -> Iterator[tuple[tuple[str | int, ...], Findings]]:
    """Each text of `value` that holds templates, by its path within it."""
    if isinstance(value, str):
        if _OPEN in value:
            yield (), _text(value, names)
    elif isinstance(value, dict):
        for name, one in value.items():
            if _OPEN in name:
                yield (name,), Findings(problems=["A name cannot be a template."])
            for path, found in template(one, names):
                yield (name, *path), found
    elif isinstance(value, list):
        for index, one in enumerate(value):
            for path, found in template(one, names):
                yield (index, *path), found


def templated(value: Any) -> bool:
    """Does any text within hold a template?"""
    if isinstance(value, str):
        return _OPEN in value
    if isinstance(value, dict):
        return any(templated(one) for one in value.values())
    return isinstance(value, list) and any(templated(one) for one in value)


def _text(text: str, names: Collection[str]) -> Findings:
    found = Findings()
    at = text.find(_OPEN)
    while at >= 0:
        end = text.find(_CLOSE, at)
        if end < 0:
            found.problems.append("A ${{ is never closed by }}.")
            break
        found.add(expression(text[at + len(_OPEN) : end].strip(), names))
        at = text.find(_OPEN, end)
    return found


def _syntax(message: str) -> str:
    where = _WHERE.search(message)
    if where is None:
        return f"This is no CEL: {message[:200]}"
    line, column, what = where.groups()
    place = f"column {column}" if line == "1" else f"line {line}, column {column} of the expression"
    return f"This is no CEL, at {place}: {what[:200]}"
