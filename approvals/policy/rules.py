"""The rules of a version as facts: copied, compared, hashed, checked."""

import hashlib
from collections.abc import Iterable
from typing import Any

from approvals.errors import InvalidCondition
from approvals.models import PolicyRule, PolicyVersion, RuleApprovers
from approvals.policy import conditions, constraints, matching, reach
from approvals.policy.match import valid
from audit.canonical import canonical_json

COPIED = (
    *("order", "name", "tools", "condition", "match", "effect", "constraints", "reason", "approvers_id", "quorum"),
    *("expires_s", "execution_expires_s", "escalate_to_id", "grant_max_s", "second_factor"),
)
EXPIRES_MIN_S = 1
EXPIRES_MAX_S = 30 * 86_400


def of(version: PolicyVersion) -> list[PolicyRule]:
    """The rules in their order, with the groups that they name."""
    found = version.rules.select_related("approvers", "escalate_to").prefetch_related("roles__group")
    return list(found.order_by("order"))


def facts(rule: PolicyRule) -> dict[str, Any]:
    """One rule as JSON; groups by primary key."""
    known = {name: getattr(rule, name) for name in COPIED}
    return known | {"roles": [{"group": role.group_id, "count": role.count} for role in rule.roles.all()]}


def rules_json(version: PolicyVersion) -> list[dict[str, Any]]:
    """The rules as facts, in their order; groups by primary key."""
    return [facts(rule) for rule in of(version)]


def sha256(version: PolicyVersion) -> str:
    """Of everything that the rules say: what was proposed, tried and published is told by it."""
    return hashlib.sha256(canonical_json(rules_json(version))).hexdigest()


def write(version: PolicyVersion, given: Iterable[dict[str, Any]]) -> None:
    """Adds rules, as `facts` gives them, to a draft."""
    roles: list[RuleApprovers] = []
    made: list[PolicyRule] = []
    for one in given:
        rule = PolicyRule(version=version, **{name: one[name] for name in COPIED if name in one})
        made.append(rule)
        roles += [
            RuleApprovers(rule=rule, group_id=role["group"], count=role["count"]) for role in one.get("roles", ())
        ]
    PolicyRule.objects.bulk_create(made)
    RuleApprovers.objects.bulk_create(roles)


def problems(version: PolicyVersion) -> list[tuple[str, str]]:
    """What keeps the version from being published, as (rule name, message)."""
    rules = of(version)
    found = [("", "A policy needs a rule.")] if not rules else []
    for rule in rules:
        found += [(rule.name, message) for message in rule_problems(rule)]
    return found


def warnings(version: PolicyVersion) -> list[tuple[str, str]]:
    """What is worth knowing before it is published, as (rule name, message)."""
    found = []
    for rule in of(version):
        if rule.effect == PolicyRule.Effect.ASK:
            roles = [(role.group, role.count) for role in rule.roles.all()]
            found += [(rule.name, message) for message in reach.warnings(rule, roles)]
    return found


def rule_problems(rule: PolicyRule) -> list[str]:
    """What is wrong with one rule; its groups' members are counted as they are now."""
    found = [message for _, message in text_problems(rule)]
    if rule.effect == PolicyRule.Effect.ASK:
        if rule.approvers is None:
            found.append("It asks, and names no group of approvers.")
        else:
            unreachable = reach.problem(rule, [(role.group, role.count) for role in rule.roles.all()])
            found += [unreachable] if unreachable else []
    return found


def text_problems(rule: PolicyRule) -> list[tuple[str, str]]:
    """What is wrong with a rule's own text, as (field, message): no row is read."""
    found: list[tuple[str, str]] = []
    if not rule.tools:
        found.append(("tools", "It names no tool."))
    found += [("tools", f"{pattern!r} is no pattern of tool names.") for pattern in rule.tools if not valid(pattern)]
    try:
        conditions.check(rule.condition)
    except InvalidCondition as error:
        found.append(("condition", f"Condition, {error.message}"))
    found += [("match", message) for message in matching.problems(rule.match)]
    found += [("constraints", message) for message in constraints.problems(rule.constraints, effect=rule.effect)]
    for name in ("expires_s", "execution_expires_s"):
        if not EXPIRES_MIN_S <= getattr(rule, name) <= EXPIRES_MAX_S:
            found.append((name, f"Must be from {EXPIRES_MIN_S} to {EXPIRES_MAX_S} seconds."))
    return found
