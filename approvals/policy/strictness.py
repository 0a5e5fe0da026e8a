"""Does one set of rules plainly give no more leave than another? Told from the rules alone, and only where it is certain."""

from collections.abc import Sequence
from typing import Any

from approvals.models import PolicyRule

ALLOW, ASK, DENY = PolicyRule.Effect.ALLOW, PolicyRule.Effect.ASK, PolicyRule.Effect.DENY
_STRICTNESS = {ALLOW: 0, ASK: 1, DENY: 2}
_ABOUT = ("tools", "condition", "match")
_ASKED = ("approvers_id", "escalate_to_id", "roles")
Rule = dict[str, Any]


def no_looser(new: Sequence[Rule], old: Sequence[Rule]) -> bool:
    """Every call is decided by `new` at least as strictly as by `old` (rules as `rules.facts` gives them).

    True where `new` is `old` with denials added, allowing rules taken out, effects made stricter and what an approval
    takes made more; all else is not compared, and False. What is taken out is no ask: a later rule might allow. Nor is
    a rule ever moved: the first that matches decides.
    """
    if any(rule["effect"] == DENY and not any(_about(rule) == _about(one) for one in _of(new, DENY)) for rule in old):
        return False
    given = [rule for rule in new if rule["effect"] != DENY or _at(rule, old) is not None]
    place = 0
    for rule in (one for one in old if one["effect"] != DENY):
        if place < len(given) and _about(given[place]) == _about(rule) and _stricter(given[place], rule):
            place += 1
        elif rule["effect"] != ALLOW or "gives" in rule["constraints"]:
            return False  # a label that is not given any more may be what a later rule asks about
    return place == len(given)


def _of(rules: Sequence[Rule], effect: str) -> list[Rule]:
    return [rule for rule in rules if rule["effect"] == effect]


def _at(rule: Rule, old: Sequence[Rule]) -> int | None:
    """Where `old` has a rule that is no denial about the same."""
    return next((place for place, one in enumerate(old) if one["effect"] != DENY and _about(one) == _about(rule)), None)


def _about(rule: Rule) -> tuple[Any, ...]:
    return tuple(rule[name] for name in _ABOUT)


def _stricter(new: Rule, old: Rule) -> bool:
    if _STRICTNESS[new["effect"]] < _STRICTNESS[old["effect"]]:
        return False
    if new["effect"] == DENY:
        return True
    if new["constraints"] != old["constraints"] and (old["constraints"] or "gives" in new["constraints"]):
        return False
    if new["effect"] == ASK == old["effect"]:
        return (
            all(new[name] == old[name] for name in _ASKED)
            and new["quorum"] >= old["quorum"]
            and new["second_factor"] >= old["second_factor"]
            and new["grant_max_s"] <= old["grant_max_s"]
            and new["execution_expires_s"] <= old["execution_expires_s"]
        )
    return True
