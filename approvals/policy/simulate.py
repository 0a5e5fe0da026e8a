"""One call before policies that need not be in force: the answer, and of every rule why it fits or not."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from approvals.errors import ConditionFailed
from approvals.models import PolicyRule, PolicyVersion
from approvals.policy import conditions, matching, rules, trial
from approvals.policy.evaluate import Decision
from approvals.policy.inputs import PolicyInput
from approvals.policy.match import matches

ALLOW, ASK, DENY = PolicyRule.Effect.ALLOW, PolicyRule.Effect.ASK, PolicyRule.Effect.DENY


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one rule. state: "decides" (the answer of its policy), "matches" (but another one decides), or
    "no"; why: a sentence; fails: what does not fit ("tools", a field of its match, "condition")."""

    policy: str
    order: int
    rule: str
    effect: str
    state: str
    why: str
    fails: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "fails": list(self.fails)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """decision: of all policies together; outcomes: every rule, in the order in which they count."""

    given: PolicyInput
    decision: Decision
    outcomes: Sequence[Outcome]

    def as_json(self) -> dict[str, Any]:
        known = self.decision.as_json()
        names = ("effect", "policy", "rule", "reason", "quorum", "expires_s", "constraints")
        return {
            "decision": {name: known[name] for name in names if name in known},
            "risk": str(self.given.risk),
            "risk_score": self.given.risk_score,
            "rules": [one.as_json() for one in self.outcomes],
        }


def version(draft: PolicyVersion, given: PolicyInput) -> Simulated:
    """As if `draft` were in force, beside what is published of other policies."""
    others = PolicyVersion.objects.filter(status=PolicyVersion.Status.PUBLISHED).exclude(policy=draft.policy_id)
    all_of = sorted([draft, *others.select_related("policy")], key=lambda one: one.policy.name)
    outcomes = [outcome for one in all_of for outcome in explain(str(one), rules.of(one), given)]
    return Simulated(given=given, decision=trial.decide_now(trial.beside(draft), given), outcomes=outcomes)


def in_force(given: PolicyInput) -> Simulated:
    """By what is published now."""
    published = PolicyVersion.objects.filter(status=PolicyVersion.Status.PUBLISHED).select_related("policy")
    outcomes = [
        outcome for one in published.order_by("policy__name") for outcome in explain(str(one), rules.of(one), given)
    ]
    return Simulated(given=given, decision=trial.decide_now(trial.in_force(), given), outcomes=outcomes)


def alone(label: str, given_rules: Sequence[PolicyRule], given: PolicyInput) -> Simulated:
    """By these rules and nothing else; they need not be rows."""
    decision = trial.decide(trial.compiled(label, given_rules), given)
    return Simulated(given=given, decision=decision, outcomes=explain(label, given_rules, given))


def explain(label: str, given_rules: Sequence[PolicyRule], given: PolicyInput) -> list[Outcome]:
    """Every rule of one policy. A deny that matches decides, else the first that matches."""
    looked = [(rule, *_look(rule, given)) for rule in given_rules]
    fitting = [rule for rule, fails, _ in looked if not fails]
    decides = next((rule for rule in fitting if rule.effect == DENY), fitting[0] if fitting else None)
    found = []
    for rule, fails, why in looked:
        state = "no" if fails else "decides" if rule is decides else "matches"
        if state == "matches" and decides is not None:
            later = "A matching deny wins" if decides.effect == DENY else "An earlier rule decides"
            why = f"{why} {later}: {decides.name}."
        found.append(
            Outcome(
                policy=label,
                order=rule.order,
                rule=rule.name,
                effect=str(rule.effect),
                state=state,
                why=why,
                fails=tuple(fails),
            )
        )
    return found


def _look(rule: PolicyRule, given: PolicyInput) -> tuple[list[str], str]:
    """(what does not fit, a sentence)."""
    if not matches(rule.tools, given.tool):
        return ["tools"], f"{given.tool} is none of its tools: {', '.join(rule.tools)}."
    wrong = matching.problems(rule.match)
    if wrong:
        return ["match"], f"Its match cannot be read: {wrong[0]}"
    misfits = matching.compiled(rule.match).misfits(given, strict=rule.effect == ALLOW)
    if misfits:
        told = "; ".join(f"{name} is {_shown(name, given)}, wanted {_wanted(rule.match[name])}" for name in misfits)
        return misfits, f"Does not fit: {told}."
    try:
        holds = conditions.holds(rule.condition, conditions.scope(given.variables()))
    except ConditionFailed as error:
        why = f"Its condition could not be evaluated: {error.message}"
        if rule.effect == ALLOW:
            return ["condition"], f"{why} A rule that allows does not match then."
        return [], f"{why} A rule that asks or denies matches then."
    if not holds:
        return ["condition"], "Its condition is false."
    return [], "Everything fits." if rule.match or rule.condition else "It is about every call of its tools."


def _shown(name: str, given: PolicyInput) -> str:
    values = {
        "agents": given.agent,
        "owners": given.owner,
        "groups": ", ".join(given.groups),
        "tenants": given.tenant,
        "repositories": given.repository,
        "environments": given.environment,
        "branches": given.target_branch,
        "programs": None if given.programs is None else ", ".join(given.programs),
        "secrets": None if given.secrets is None else ", ".join(given.secrets),
        "network": None if given.network is None else ", ".join(given.network),
        "effects": given.effect,
        "risks": given.risk,
        "risk_at_least": given.risk_score,
        "labels": ", ".join(f"{key}={value}" for key, value in sorted(given.labels.items())),
        "time": given.now.isoformat(timespec="minutes") if given.now else None,
        "first_use": given.first_use,
        "after": None if given.seen is None else ", ".join(sorted(given.seen)),
        "carries": None if given.carries is None else ", ".join(sorted(given.carries)),
        "exposed": None if given.exposed is None else ", ".join(sorted(given.exposed)),
        "unplanned": given.unplanned,
        "tainted": None if given.tainted is None else bool(given.tainted),
        "spent": "less" if given.spent else None,
    }
    value = values.get(name)
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) or "nothing"


def _wanted(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " or ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_wanted(one)}" for key, one in value.items())
    return str(value)
