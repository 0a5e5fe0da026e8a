"""What versions would say that are not in force: compiled for one trial, apart from what calls are judged by."""

from collections.abc import Iterable, Sequence

from approvals.models import PolicyRule, PolicyVersion
from approvals.policy import evaluate, published, rules
from approvals.policy.evaluate import Decision, PolicyInput

Policies = tuple[published.Policy, ...]


def compiled(label: str, given: Iterable[PolicyRule], *, version_id: str = "") -> Policies:
    """One policy of these rules, which need not be rows."""
    return (evaluate.compiled(label, version_id, given),)


def beside(version: PolicyVersion) -> Policies:
    """What would be in force if `version` were: it, and what is published of every other policy."""
    others = PolicyVersion.objects.filter(status=PolicyVersion.Status.PUBLISHED).exclude(policy=version.policy_id)
    found = [version, *others.select_related("policy")]
    return tuple(
        evaluate.compiled(str(one), str(one.pk), rules.of(one))
        for one in sorted(found, key=lambda one: one.policy.name)
    )


def in_force() -> Policies:
    """What is published now."""
    found = PolicyVersion.objects.filter(status=PolicyVersion.Status.PUBLISHED).select_related("policy")
    return tuple(evaluate.compiled(str(one), str(one.pk), rules.of(one)) for one in found.order_by("policy__name"))


def decide(policies: Policies, given: PolicyInput) -> Decision:
    """What these policies say of one call, freeze windows apart."""
    return evaluate.decide(policies, given)


def decide_now(policies: Policies, given: PolicyInput) -> Decision:
    """The same under the freeze windows that are in force."""
    return evaluate.decide(policies, given, published.of(published.ids()).freezes)


def strictest(policies: Policies, inputs: Sequence[PolicyInput]) -> Decision:
    """What they say of calls that are decided on together: items that are denied are left out, unless all are."""
    answers = [decide(policies, one) for one in inputs]
    rest = [one for one in answers if one.effect != evaluate.DENY]
    if not rest:
        return answers[0]
    return max(rest, key=lambda one: (one.effect == evaluate.ASK, one.quorum, -one.expires_s))
