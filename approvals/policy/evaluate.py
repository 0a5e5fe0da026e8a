"""What the published policies say of one exact call.

Within a policy a matching deny wins, else the first matching rule by order. Across policies the stricter answer wins:
deny, then ask, then allow (docs/decisions/0002), and the constraints of all of them hold. Where no policy has a matching
rule, the call is denied. A freeze window only takes leave away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self
from uuid import UUID

from approvals.errors import ConditionFailed
from approvals.models import PolicyRule
from approvals.policy import conditions, constraints, published
from approvals.policy.inputs import PolicyInput
from approvals.policy.published import Freeze, Policy, Published, Rule, compiled

__all__ = [
    "ALLOW",
    "ASK",
    "DENY",
    "FREEZE",
    "NOTHING_ALLOWS",
    "Decision",
    "PolicyInput",
    "compiled",
    "decide",
    "evaluate",
    "evaluate_by",
    "evaluate_each",
]

ALLOW, ASK, DENY = PolicyRule.Effect.ALLOW, PolicyRule.Effect.ASK, PolicyRule.Effect.DENY
NOTHING_ALLOWS = "No published policy allows this call."
FREEZE = "freeze"  # the policy's name in decisions by a freeze window
_STRICTEST = {str(DENY): 0, str(ASK): 1, str(ALLOW): 2}
_NO_POLICY = f"{NOTHING_ALLOWS} No policy is published at all."


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """effect: "allow", "ask" or "deny"; policy: as in "default@1", or "" where nothing matched; approvers_id: the
    group to ask (its primary key); quorum: how many of them; expires_s: seconds until an unanswered request expires.

    roles, second_factor, execution_expires_s, escalate_to_id, grant_max_s: of an ask, as its rule says; constraints: how
    the call must run; gives: labels that the job has once it ran; versions: the set that decided
    (`published.digest_of`), "" where it is not what is in force; passing: it holds for its moment only, and is made anew
    when the call is claimed; facts: what had to be looked up and may be otherwise now, as it was then.
    """

    effect: str
    policy: str = ""
    policy_version_id: str | None = None
    rule: str = ""
    reason: str = ""
    approvers_id: int | None = None
    quorum: int = 1
    expires_s: int = 86_400
    roles: list[dict[str, Any]] = field(default_factory=list)
    second_factor: bool = False
    execution_expires_s: int = 86_400
    escalate_to_id: int | None = None
    grant_max_s: int = 0
    constraints: dict[str, Any] = field(default_factory=dict)
    gives: list[str] = field(default_factory=list)
    versions: str = ""
    passing: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Without what is as it mostly is."""
        known = {name: getattr(self, name) for name in _ALWAYS}
        return known | {name: value for name, usual in _USUAL if (value := getattr(self, name)) != usual}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `as_json` gave."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: given for name, given in value.items() if name in known})


_ALWAYS = ("effect", "policy", "policy_version_id", "rule", "reason", "approvers_id", "quorum", "expires_s", "versions")
_USUAL = [(name, usual) for name, usual in asdict(Decision(effect="")).items() if name not in _ALWAYS]


def evaluate(given: PolicyInput) -> Decision:
    """Decides by what is in force now, as this transaction sees it. One small query a call."""
    return evaluate_by(published.ids(), given)


def evaluate_by(versions: frozenset[UUID], given: PolicyInput) -> Decision:
    """The same by the set that the caller's transaction has read (`published.ids`)."""
    return _by(published.of(versions), given)


def evaluate_each(
    versions: frozenset[UUID], given: PolicyInput, calls: Sequence[tuple[Mapping[str, Any], str, Mapping[str, Any]]]
) -> list[Decision]:
    """The same for many calls of one tool: `given` with each of these arguments, risks and other changes.

    Where no rule for this tool looks at more than the risk's level, calls of the same risk have the same answer.
    """
    known = published.of(versions)
    if known.needs(given.tool, str(given.effect)).per_call:
        return [_by(known, replace(given, arguments=arguments, risk=risk, **more)) for arguments, risk, more in calls]
    by_risk: dict[str, Decision] = {}
    for arguments, risk, more in calls:
        if risk not in by_risk:
            by_risk[risk] = _by(known, replace(given, arguments=arguments, risk=risk, **more))
    return [by_risk[risk] for _, risk, _ in calls]


def decide(policies: Sequence[Policy], given: PolicyInput, freezes: Sequence[Freeze] = ()) -> Decision:
    """What these policies and windows say, whether they are in force or not."""
    return _decide(policies, given, freezes, {})


def _decide(
    policies: Sequence[Policy], given: PolicyInput, freezes: Sequence[Freeze], also: dict[str, Any]
) -> Decision:
    """also: what the decision says besides."""
    scope = _Scope(given)
    answers: list[tuple[Decision, Rule]] = []
    failed: list[str] = []
    gives: set[str] = set()
    try:
        for policy in policies:
            answer = _ask_policy(policy, given, scope, failed, gives)
            if answer is not None:
                answers.append(answer)
    except _UnreadableError as error:
        return Decision(effect=DENY, reason=f"The policies cannot read this call: {error}", **also)
    frozen = [_frozen(freeze, given) for freeze in freezes if _freezes(freeze, given)]
    found = [answer for answer, _ in answers]
    if not found and not any(answer.effect == DENY for answer in frozen):
        why = NOTHING_ALLOWS if policies else _NO_POLICY
        return Decision(effect=DENY, reason=" ".join([why, *failed])[:500], **also)
    strictest = min([*found, *frozen], key=_strictest_first)
    if strictest.effect != DENY:
        bound = [rule.constraints for _, rule in answers if rule.constraints]
        if bound:
            also = {**also, "constraints": constraints.merged(bound)}
        if gives:
            also = {**also, "gives": sorted(gives)}
    return replace(strictest, **also) if also else strictest


def _by(known: Published, given: PolicyInput) -> Decision:
    needs = known.needs(given.tool, str(given.effect))
    also: dict[str, Any] = {"versions": known.digest, "facts": _facts(needs.facts, given), "passing": needs.passing}
    return _decide(known.policies, given, known.freezes, also)


def _facts(read: frozenset[str], given: PolicyInput) -> dict[str, Any]:
    """What was looked up, and what its rows may say otherwise later, as JSON: drafts are tried on it."""
    found: dict[str, Any] = {"groups": list(given.groups), "score": given.risk_score}
    if given.environment:
        found["environment"] = given.environment
    if not read:
        return found
    if "first_use" in read:
        found["first_use"] = given.first_use
    if "seen" in read:
        found["seen"] = None if given.seen is None else sorted(given.seen)
    if "provenance" in read:
        found["unplanned"] = given.unplanned
        found["tainted"] = None if given.tainted is None else list(given.tainted)
    if "branch" in read:
        found["branch"] = given.target_branch
    if "time" in read and given.now is not None:
        found["now"] = given.now.isoformat()
    if given.spent:
        found["spent"] = {account: dict(spent) for account, spent in given.spent.items()}
    return found


class _UnreadableError(Exception):
    """The call cannot be told to a condition."""


class _Scope:
    """The call's variables, converted for conditions when the first one needs them."""

    __slots__ = ("_given", "_made")

    def __init__(self, given: PolicyInput) -> None:
        self._given = given
        self._made: conditions.Scope | None = None

    def holds(self, condition: str) -> bool:
        """Raises ConditionFailed."""
        if not condition:
            return True
        if self._made is None:
            try:
                self._made = conditions.scope(self._given.variables())
            except ConditionFailed as error:
                raise _UnreadableError(error.message) from None
        return conditions.holds(condition, self._made)

    def may_hold(self, condition: str) -> bool:
        try:
            return self.holds(condition)
        except ConditionFailed:
            return True


def _ask_policy(
    policy: Policy, given: PolicyInput, scope: _Scope, failed: list[str], gives: set[str]
) -> tuple[Decision, Rule] | None:
    """The policy's answer and its rule, or None where no rule of it matches. Allow rules that cannot be evaluated go to
    `failed`; what any rule that lets the call run gives, to `gives`."""
    first: tuple[Decision, Rule] | None = None
    for rule in policy.about(given.tool):
        if rule.gives and rule.matcher.fits(given, strict=False) and scope.may_hold(rule.condition):
            gives |= rule.gives
        if first is not None and rule.effect != DENY:
            continue
        if not rule.matcher.fits(given, strict=rule.effect == ALLOW):
            continue
        reason = rule.reason
        try:
            if not scope.holds(rule.condition):
                continue
        except ConditionFailed as error:
            why = f"The condition of rule {rule.name} of {policy.label} could not be evaluated: {error.message}"
            if rule.effect == ALLOW:
                failed.append(why)
                continue
            reason = f"{reason} {why}".strip()[:500]
        answer = Decision(
            effect=rule.effect,
            policy=policy.label,
            policy_version_id=policy.version_id or None,
            rule=rule.name,
            reason=reason,
            approvers_id=rule.approvers_id if rule.effect == ASK else None,
            quorum=rule.quorum,
            expires_s=rule.expires_s,
            **rule.asking,
        )
        if rule.effect == DENY:
            return answer, rule
        first = answer, rule
    return first


def _freezes(freeze: Freeze, given: PolicyInput) -> bool:
    return (
        (given.now is None or freeze.starts_at <= given.now < freeze.ends_at)
        and freeze.tools.fit(given.tool)
        and (not freeze.effects or str(given.effect) in freeze.effects)
        and (freeze.environments is None or freeze.environments.fit(given.environment))
        and (freeze.repositories is None or freeze.repositories.fit(given.repository))
    )


def _frozen(freeze: Freeze, given: PolicyInput) -> Decision:
    until = f"{freeze.ends_at:%Y-%m-%d %H:%M} UTC"
    return Decision(
        effect=freeze.effect,
        policy=FREEZE,
        rule=freeze.name,
        reason=f"{freeze.reason} (frozen until {until})".strip(),
        approvers_id=freeze.approvers_id if freeze.effect == ASK else None,
        quorum=freeze.quorum,
    )


def _strictest_first(answer: Decision) -> tuple[int, int, int, str]:
    return (_STRICTEST[answer.effect], -answer.quorum, answer.expires_s, answer.policy)
