"""Calls and what a policy is expected to say of them: `manage.py policy test`, and the tests of the packs.

expectations:
  - name: pushes ask
    call: {tool: git.push, arguments: {branch: main}, owner: ada, repository: shop}
    expect: ask                  # or {effect: ask, rule: git-push, approvers: sre, quorum: 2}
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from approvals.errors import InvalidTrial
from approvals.models import PolicyRule
from approvals.policy import calls, simulate, yamlform
from approvals.policy.inputs import PolicyInput
from tools.yamltext.places import Path, Problem

NOON = datetime(2026, 1, 14, 12, 0, tzinfo=UTC)  # a Wednesday: tests give the same answer whenever they run
_EXPECTED = ("effect", "rule", "quorum")
Simulate = Callable[[PolicyInput], simulate.Simulated]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One expectation that was tried. wrong: what differs, in words; line: where it stands in its file."""

    name: str
    line: int
    wrong: str
    simulated: simulate.Simulated

    @property
    def ok(self) -> bool:
        return not self.wrong


def unsaved(file: yamlform.File) -> list[PolicyRule]:
    """The file's rules, as no database has them: who is asked is left out."""
    left_out = ("approvers", "escalate_to", "roles")
    return [
        PolicyRule(**{name: value for name, value in rule.items() if name not in left_out}) for rule in file.rules or ()
    ]


def run(file: yamlform.File, *, by: Simulate | None = None) -> list[Result]:
    """Tries every expectation of the file: by its own rules, or by what `by` says.

    Raises:
        InvalidPolicyFile: an expectation cannot be read; each with its line.
    """
    rules = unsaved(file)
    simulated = by or (lambda given: simulate.alone(file.policy, rules, given))
    problems: list[Problem] = []
    parsed: list[tuple[str, int, dict[str, Any], PolicyInput]] = []
    for place, one in enumerate(file.expectations):
        read = _read(file, ("expectations", place), one, problems)
        if read is not None:
            parsed.append(read)
    if problems:
        raise yamlform.invalid(problems)
    results = []
    for name, line, expected, given in parsed:
        found = simulated(given)
        results.append(Result(name=name, line=line, wrong=_differs(expected, found), simulated=found))
    return results


def _read(
    file: yamlform.File, path: Path, one: Any, problems: list[Problem]
) -> tuple[str, int, dict[str, Any], PolicyInput] | None:
    def add(where: Sequence[str | int], message: str) -> None:
        problems.append(file.places.problem((*path, *where), message))

    if not isinstance(one, dict):
        add((), "An expectation is an object with call and expect.")
        return None
    before = len(problems)
    for key in one:
        if key not in ("name", "call", "expect"):
            add((key,), f"There is no {str(key)[:60]!r} here; known are name, call, expect.")
    expected = one.get("expect")
    expected = {"effect": expected} if isinstance(expected, str) else expected
    if not isinstance(expected, dict) or expected.get("effect") not in PolicyRule.Effect.values:
        add(("expect",), "Say what is expected: allow, ask or deny, or {effect, rule, quorum}.")
    elif set(expected) - set(_EXPECTED):
        add(("expect",), f"Known are {', '.join(_EXPECTED)}.")
    call = one.get("call")
    if not isinstance(call, dict):
        add(("call",), "A call is an object with tool and arguments.")
    else:
        try:
            given = calls.made(call, now=NOON)
        except InvalidTrial as error:
            add(("call", *error.field.split(".")), error.message)
    if len(problems) > before:
        return None
    name = one.get("name") or f"{call['tool']} is {expected['effect']}"  # type: ignore[index]
    return str(name), file.places.problem(path, "").line, dict(expected), given  # type: ignore[arg-type]


def _differs(expected: dict[str, Any], found: simulate.Simulated) -> str:
    wrong = []
    for name in _EXPECTED:
        got = getattr(found.decision, name)
        if name in expected and str(got) != str(expected[name]):
            wrong.append(f"{name} is {got or 'none'}, expected {expected[name]}")
    if not wrong:
        return ""
    by = f" (rule {found.decision.rule})" if found.decision.rule and "rule" not in expected else ""
    return "; ".join(wrong) + by
