"""Conditions of rules: CEL (Common Expression Language) over `call` and `job`, compiled once.

CEL has no loops without end, no side effects and no access to anything but its variables.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import cel

from approvals.errors import ConditionFailed, InvalidCondition
from approvals.policy.inputs import JOB_SPENT, OWNER_SPENT

LENGTH_MAX = 2000
# What a condition sees; `PolicyInput.variables` gives exactly these.
FIELDS = {
    "call": frozenset(
        {"tool", "args", "effect", "queue", "risk", "risk_score", "program", "programs", "command", "branch"}
        | {"network", "secrets", "first_use", "labels", "unplanned", "tainted"}
    ),
    "job": frozenset(
        {"id", "agent", "owner", "groups", "repository", "branch", "labels", "kind"}
        | {"tenant", "environment", "seen", "spent", "owner_spent"}
    ),
}
NAMES = frozenset({*FIELDS, "now"})
# What has to be looked up for a field (see `approvals.policy.matching.Matcher.reads`).
_READS = {
    ("call", "risk_score"): "risk_score",
    ("call", "program"): "programs",
    ("call", "programs"): "programs",
    ("call", "command"): "programs",
    ("call", "branch"): "branch",
    ("call", "network"): "network",
    ("call", "secrets"): "secrets",
    ("call", "first_use"): "first_use",
    ("call", "labels"): "carries",
    ("call", "unplanned"): "provenance",
    ("call", "tainted"): "provenance",
    ("job", "seen"): "seen",
    ("job", "spent"): f"spent:{JOB_SPENT}",
    ("job", "owner_spent"): f"spent:{OWNER_SPENT}",
}
FUNCTIONS = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "type", "duration", "timestamp"}
    | {"string", "int", "uint", "double", "bytes"}
)
_WHERE = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?(.*)")
# Names that macros bind: list.exists(NAME, …)
_BOUND = re.compile(r"\.\s*(?:all|exists|exists_one|existsOne|filter|map)\s*\(\s*([A-Za-z_]\w*)\s*,")
_STRING = re.compile(r"""[rRbB]{0,2}(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")""", re.DOTALL)
_FIELD = re.compile(r"(?<![\w.])(call|job)\s*\.\s*([A-Za-z_]\w*)")
_CALL = re.compile(r"(?<![\w.])call(?!\w)")
_OTHER_FIELD = re.compile(r"(?<![\w.])call\s*\.\s*(?:tool|effect|queue|risk)(?!\w)")
_TOOL = re.compile(r"(?<![\w.])call\s*\.\s*tool(?!\w)")
_NAME = r"(?<![\w.]){}(?!\w)"

Scope = cel.Context


def check(source: str) -> None:
    """Refuses what could never be evaluated: syntax, unknown names, unknown functions. Empty means always.

    Raises:
        InvalidCondition: with the line and the column of the first fault.
    """
    if not source.strip():
        return
    if len(source) > LENGTH_MAX:
        raise InvalidCondition(f"A condition has at most {LENGTH_MAX} characters.")
    program = _program(source)
    code = _STRING.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), source)
    bound = set(_BOUND.findall(code))
    for name in program.variables():
        if name not in NAMES and name not in bound and name.isidentifier():
            message = f"Unknown name {name!r}: a condition sees call, job and now."
            raise _at(code, _NAME.format(re.escape(name)), message)
    for name in program.functions():
        if name.isidentifier() and not name.startswith("_") and name not in FUNCTIONS:
            raise _at(
                code, _NAME.format(re.escape(name)).replace(r"(?<![\w.])", r"(?<!\w)"), f"Unknown function {name!r}."
            )
    for found in _FIELD.finditer(code):
        root, field = found.groups()
        if root not in bound and field not in FIELDS[root]:
            known = ", ".join(sorted(FIELDS[root]))
            raise InvalidCondition(f"{root} has no {field!r}; it has {known}.", **_position(code, found.start()))


@lru_cache(maxsize=1024)
def reads_arguments(source: str) -> bool:
    """May the condition's answer depend on the call's arguments? True where that is not plain to see."""
    code = _STRING.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), source)
    plain = {found.start() for found in _OTHER_FIELD.finditer(code)}
    return any(found.start() not in plain for found in _CALL.finditer(code))


@lru_cache(maxsize=1024)
def concerns(source: str, tool: str) -> bool:
    """Can it hold for any call of this tool? False where it asks for nothing but `call.tool`, and that does not do."""
    if not source.strip():
        return True
    code = _STRING.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), source)
    named = [found for name in NAMES for found in re.finditer(_NAME.format(name), code)]
    if len(named) != len(_TOOL.findall(code)):
        return True
    try:
        return holds(source, scope({"call": {"tool": tool}}))
    except ConditionFailed:
        return True


@lru_cache(maxsize=1024)
def reads(source: str) -> frozenset[str]:
    """What has to be looked up before the condition can be evaluated; of `call` or `job` used as a whole, everything."""
    code = _STRING.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), source)
    found = {_READS[named] for named in _FIELD.findall(code) if named in _READS}
    for root in FIELDS:
        whole = len(re.findall(_NAME.format(root), code))
        if whole > sum(name == root for name, _ in _FIELD.findall(code)):
            found |= {read for (name, _), read in _READS.items() if name == root}
    return frozenset(found | ({"time"} if re.search(_NAME.format("now"), code) else set()))


def scope(variables: Mapping[str, Any]) -> Scope:
    """The variables, converted once for all conditions of one evaluation. Raises ConditionFailed."""
    try:
        return cel.Context(variables=dict(variables))
    except BaseException as error:
        raise _failed(error) from None


def holds(source: str, variables: Scope) -> bool:
    """Is the condition true? An empty one always is.

    Raises:
        ConditionFailed: it does not compile, met a missing or unfitting value, or gave neither true nor false.
    """
    if not source.strip():
        return True
    try:
        value = _program(source).execute(variables)
    except InvalidCondition as error:
        raise ConditionFailed(error.message) from None
    except BaseException as error:
        raise _failed(error) from None
    if not isinstance(value, bool):
        raise ConditionFailed(f"It gives {type(value).__name__}, not true or false.")
    return value


@lru_cache(maxsize=1024)
def _program(source: str) -> cel.Program:
    try:
        return cel.compile(source)
    except BaseException as error:
        _let_through(error)
        found = _WHERE.search(str(error))
        if found is None:
            raise InvalidCondition(str(error)[:300]) from None
        line, column, message = found.groups()
        raise InvalidCondition(message[:300], line=int(line), column=int(column)) from None


def _failed(error: BaseException) -> ConditionFailed:
    _let_through(error)
    if isinstance(error, KeyError):
        return ConditionFailed(f"There is no {error}.")
    return ConditionFailed(str(error)[:300] or type(error).__name__)


def _let_through(error: BaseException) -> None:
    """A panic of the extension is a BaseException too, and must not get past a policy."""
    if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
        raise error


def _position(code: str, offset: int) -> dict[str, int]:
    before = code[:offset]
    return {"line": before.count("\n") + 1, "column": offset - (before.rfind("\n") + 1) + 1}


def _at(code: str, pattern: str, message: str) -> InvalidCondition:
    found = re.search(pattern, code)
    return InvalidCondition(message, **_position(code, found.start() if found else 0))
