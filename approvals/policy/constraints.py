"""How a call must run where a rule lets it (`PolicyRule.constraints`), and what it leaves behind.

Of several rules that let a call run (of several policies) every constraint holds: the stricter of two wins.
The runner enforces them (`tools.constraints`); they are part of the call's digest.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from approvals.models import PolicyRule
from tools import constraints as enforced

FIELDS = frozenset({"gives", *enforced.FIELDS})
GIVES_MAX = 20


def problems(given: Any, *, effect: str = PolicyRule.Effect.ALLOW) -> list[str]:
    """What is wrong with a rule's `constraints`, in words. A rule that denies has none."""
    if not isinstance(given, dict):
        return ["constraints must be an object."]
    if given and effect == PolicyRule.Effect.DENY:
        return ["A rule that denies has no constraints: nothing runs."]
    known = ", ".join(sorted(FIELDS))
    found = [f"constraints has no {name!r}; it has {known}." for name in sorted(set(given) - FIELDS)]
    found += enforced.problems({name: value for name, value in given.items() if name in enforced.FIELDS})
    labels = given.get("gives", ["a"])
    if not isinstance(labels, list) or not 0 < len(labels) <= GIVES_MAX or not all(map(_label, labels)):
        found.append(f"constraints.gives must be a list of 1 to {GIVES_MAX} labels such as private.")
    return found


def merged(all_of: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What must hold where all of these must, without labels."""
    found: dict[str, Any] = {}
    for one in all_of:
        found = enforced.both(found, {name: value for name, value in one.items() if name in enforced.FIELDS})
    return found


def _label(given: Any) -> bool:
    return isinstance(given, str) and 0 < len(given) <= 80 and given == given.strip() and "*" not in given
