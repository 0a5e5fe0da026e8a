"""What the published policies say of one exact call.

Within a policy a matching deny wins, else the first matching rule by order. Across policies the stricter answer wins:
deny, then ask, then allow (docs/decisions/0002). Where no policy has a matching rule, the call is denied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from approvals.errors import ConditionFailed
from approvals.models import PolicyRule, PolicyVersion
from approvals.policy import conditions
from approvals.policy.match import matches

ALLOW, ASK, DENY = PolicyRule.Effect.ALLOW, PolicyRule.Effect.ASK, PolicyRule.Effect.DENY
NOTHING_ALLOWS = "No published policy allows this call."


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInput:
    """A call and its job, as policies see them.

    effect, queue, risk: of the tool and this call; repository, branch: name and default branch, or ""; groups: names
    of the owner's groups; kind: "goal" or "plan".
    """

    tool: str
    arguments: Mapping[str, Any]
    effect: str
    queue: str
    risk: str
    agent: str
    owner: str
    owner_id: int
    groups: list[str]
    repository: str
    branch: str
    labels: Mapping[str, Any]
    job_id: str
    step_id: str
    kind: str

    def variables(self) -> dict[str, Any]:
        """`call` and `job`, as conditions name them."""
        return {
            "call": {
                "tool": self.tool,
                "args": dict(self.arguments),
                "effect": str(self.effect),
                "queue": self.queue,
                "risk": str(self.risk),
            },
            "job": {
                "id": self.job_id,
                "agent": self.agent,
                "owner": self.owner,
                "groups": list(self.groups),
                "repository": self.repository,
                "branch": self.branch,
                "labels": dict(self.labels),
                "kind": str(self.kind),
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """effect: "allow", "ask" or "deny"; policy: as in "default@1", or "" where nothing matched; approvers_id: the
    group to ask (its primary key); quorum: how many of them; expires_s: seconds until an unanswered request expires.
    """

    effect: str
    policy: str = ""
    policy_version_id: str | None = None
    rule: str = ""
    reason: str = ""
    approvers_id: int | None = None
    quorum: int = 1
    expires_s: int = 86_400

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `as_json` gave."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: given for name, given in value.items() if name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    name: str
    tools: tuple[str, ...]
    condition: str
    effect: str
    reason: str
    approvers_id: int | None
    quorum: int
    expires_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policy:
    label: str
    version_id: str
    rules: tuple[_Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    versions: frozenset[Any] = frozenset()
    policies: tuple[_Policy, ...] = field(default=())


# Replaced as a whole, never changed: threads may share it.
_cached = _Published()


def evaluate(given: PolicyInput) -> Decision:
    """Decides by the versions that are published now, as this transaction sees it. One small query a call."""
    return _decide(_published(), given)


def evaluate_each(given: PolicyInput, calls: Sequence[tuple[Mapping[str, Any], str]]) -> list[Decision]:
    """The same for many calls of one tool, by the same versions: `given` with each of these arguments and risks.

    Where no condition of a rule for this tool reads the arguments, calls of the same risk have the same answer.
    """
    policies = tuple(_for_tool(policy, given.tool) for policy in _published())
    if any(conditions.reads_arguments(rule.condition) for policy in policies for rule in policy.rules):
        return [_decide(policies, replace(given, arguments=arguments, risk=risk)) for arguments, risk in calls]
    known: dict[str, Decision] = {}
    for arguments, risk in calls:
        if risk not in known:
            known[risk] = _decide(policies, replace(given, arguments=arguments, risk=risk))
    return [known[risk] for _, risk in calls]


def _for_tool(policy: _Policy, tool: str) -> _Policy:
    return replace(policy, rules=tuple(rule for rule in policy.rules if matches(rule.tools, tool)))


def evaluate_by(versions: frozenset[Any], given: PolicyInput) -> Decision:
    """The same by the published versions that the caller's transaction has read. versions: their ids."""
    return _decide(_of(versions), given)


def _decide(policies: tuple["_Policy", ...], given: PolicyInput) -> Decision:
    try:
        variables = conditions.scope(given.variables())
    except ConditionFailed as error:
        return Decision(effect=DENY, reason=f"The policies cannot read this call: {error.message}")
    answers: list[Decision] = []
    failed: list[str] = []
    for policy in policies:
        answer = _ask_policy(policy, given.tool, variables, failed)
        if answer is not None:
            answers.append(answer)
    if answers:
        return min(answers, key=_strictest_first)
    return Decision(effect=DENY, reason=" ".join([NOTHING_ALLOWS, *failed])[:500])


def _ask_policy(policy: _Policy, tool: str, variables: conditions.Scope, failed: list[str]) -> Decision | None:
    """The policy's answer, or None where no rule of it matches. Allow rules that cannot be evaluated go to `failed`."""
    first: Decision | None = None
    for rule in policy.rules:
        if not matches(rule.tools, tool) or (first is not None and rule.effect != DENY):
            continue
        reason = rule.reason
        try:
            if not conditions.holds(rule.condition, variables):
                continue
        except ConditionFailed as error:
            why = f"The condition of rule {rule.name} of {policy.label} could not be evaluated: {error.message}"
            if rule.effect == ALLOW:
                failed.append(why)
                continue
            reason = f"{reason} {why}".strip()[:500]
        answer = Decision(
            effect=str(rule.effect),
            policy=policy.label,
            policy_version_id=policy.version_id,
            rule=rule.name,
            reason=reason,
            approvers_id=rule.approvers_id if rule.effect == ASK else None,
            quorum=rule.quorum,
            expires_s=rule.expires_s,
        )
        if rule.effect == DENY:
            return answer
        first = answer
    return first


def _strictest_first(answer: Decision) -> tuple[int, int, int, str]:
    return ([DENY, ASK, ALLOW].index(PolicyRule.Effect(answer.effect)), -answer.quorum, answer.expires_s, answer.policy)


def _published() -> tuple[_Policy, ...]:
    """The published rules, read anew when the set of published versions is another one.

    Published versions never change (a trigger holds it), so their ids say all.
    """
    return _of(
        frozenset(
            PolicyVersion.objects.filter(status=PolicyVersion.Status.PUBLISHED).order_by().values_list("pk", flat=True)
        )
    )


def _of(seen: frozenset[Any]) -> tuple[_Policy, ...]:
    global _cached
    cached = _cached
    if seen != cached.versions:
        cached = _cached = _Published(versions=seen, policies=_load(seen))
    return cached.policies


def _load(version_ids: frozenset[Any]) -> tuple[_Policy, ...]:
    versions = (
        PolicyVersion.objects.filter(pk__in=version_ids)
        .select_related("policy")
        .prefetch_related("rules")
        .order_by("policy__name")
    )
    return tuple(
        _Policy(
            label=str(version),
            version_id=str(version.pk),
            rules=tuple(_rule(rule) for rule in sorted(version.rules.all(), key=lambda rule: rule.order)),
        )
        for version in versions
    )


def _rule(rule: PolicyRule) -> _Rule:
    return _Rule(
        name=rule.name,
        tools=tuple(rule.tools),
        condition=rule.condition,
        effect=rule.effect,
        reason=rule.reason,
        approvers_id=rule.approvers_id,
        quorum=rule.quorum,
        expires_s=rule.expires_s,
    )
