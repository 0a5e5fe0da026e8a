"""Conditions of rules: CEL (Common Expression Language) over `call` and `job`, compiled once (see `tools.celcode`)."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from approvals.errors import ConditionFailed, InvalidCondition
from approvals.policy.inputs import JOB_SPENT, OWNER_SPENT
from tools import celcode
from tools.celcode import FUNCTIONS, LENGTH_MAX, CelFault, Scope

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
_FIELD = re.compile(r"(?<![\w.])(call|job)\s*\.\s*([A-Za-z_]\w*)")
_CALL = re.compile(r"(?<![\w.])call(?!\w)")
_OTHER_FIELD = re.compile(r"(?<![\w.])call\s*\.\s*(?:tool|effect|queue|risk)(?!\w)")
_TOOL = re.compile(r"(?<![\w.])call\s*\.\s*tool(?!\w)")
_NAME = r"(?<![\w.]){}(?!\w)"


def check(source: str) -> None:
    """Refuses what could never be evaluated: syntax, unknown names, unknown functions. Empty means always.

    Raises:
        InvalidCondition: with the line and the column of the first fault.
    """
    if not source.strip():
        return
    if len(source) > LENGTH_MAX:
        raise InvalidCondition(f"A condition has at most {LENGTH_MAX} characters.")
    try:
        unknown = next(celcode.unknown(source, NAMES, FUNCTIONS), None)
    except CelFault as error:
        place = {"line": error.line, "column": error.column} if error.line else {}
        raise InvalidCondition(error.message, **place) from None
    code = celcode.code(source)
    if unknown:
        kind, name = unknown
        if kind == "name":
            message = f"Unknown name {name!r}: a condition sees call, job and now."
            raise _at(code, _NAME.format(re.escape(name)), message)
        raise _at(code, rf"(?<!\w){re.escape(name)}(?!\w)", f"Unknown function {name!r}.")
    bound = set(celcode.MACRO.findall(code))
    for found in _FIELD.finditer(code):
        root, field = found.groups()
        if root not in bound and field not in FIELDS[root]:
            known = ", ".join(sorted(FIELDS[root]))
            raise InvalidCondition(f"{root} has no {field!r}; it has {known}.", **_position(code, found.start()))


@lru_cache(maxsize=1024)
def reads_arguments(source: str) -> bool:
    """May the condition's answer depend on the call's arguments? True where that is not plain to see."""
    code = celcode.code(source)
    plain = {found.start() for found in _OTHER_FIELD.finditer(code)}
    return any(found.start() not in plain for found in _CALL.finditer(code))


@lru_cache(maxsize=1024)
def concerns(source: str, tool: str) -> bool:
    """Can it hold for any call of this tool? False where it asks for nothing but `call.tool`, and that does not do."""
    if not source.strip():
        return True
    code = celcode.code(source)
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
    code = celcode.code(source)
    found = {_READS[named] for named in _FIELD.findall(code) if named in _READS}
    for root in FIELDS:
        whole = len(re.findall(_NAME.format(root), code))
        if whole > sum(name == root for name, _ in _FIELD.findall(code)):
            found |= {read for (name, _), read in _READS.items() if name == root}
    return frozenset(found | ({"time"} if re.search(_NAME.format("now"), code) else set()))


def scope(variables: Mapping[str, Any]) -> Scope:
    """The variables, converted once for all conditions of one evaluation. Raises ConditionFailed."""
    try:
        return celcode.scope(variables)
    except CelFault as error:
        raise ConditionFailed(error.message) from None


def holds(source: str, variables: Scope) -> bool:
    """Is the condition true? An empty one always is.

    Raises:
        ConditionFailed: it does not compile, met a missing or unfitting value, or gave neither true nor false.
    """
    if not source.strip():
        return True
    try:
        return celcode.truth(celcode.value(source, variables))
    except CelFault as error:
        raise ConditionFailed(error.message) from None


def _position(code: str, offset: int) -> dict[str, int]:
    before = code[:offset]
    return {"line": before.count("\n") + 1, "column": offset - (before.rfind("\n") + 1) + 1}


def _at(code: str, pattern: str, message: str) -> InvalidCondition:
    found = re.search(pattern, code)
    return InvalidCondition(message, **_position(code, found.start() if found else 0))
