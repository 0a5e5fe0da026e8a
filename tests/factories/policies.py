"""Published policies from short rules: (tool pattern, effect[, condition])."""

from django.contrib.auth.models import Group
from django.utils import timezone

from approvals.models import Policy, PolicyRule, PolicyVersion


def publish(
    *rules: tuple[str, ...], name: str = "testing", quorum: int = 1, approvers: str = "approvers"
) -> PolicyVersion:
    group, _ = Group.objects.get_or_create(name=approvers)
    policy, _ = Policy.objects.get_or_create(name=name)
    policy.versions.filter(status="published").update(status="retired")
    version = PolicyVersion.objects.create(policy=policy, number=policy.versions.count() + 1)
    for order, (tools, effect, *condition) in enumerate(rules, start=1):
        PolicyRule.objects.create(
            version=version,
            order=order,
            name=f"rule-{order}",
            tools=[tools],
            effect=effect,
            condition=condition[0] if condition else "",
            approvers=group if effect == "ask" else None,
            quorum=quorum,
            reason=f"{effect} by test",
        )
    PolicyVersion.objects.filter(pk=version.pk).update(status="published", published_at=timezone.now())
    version.refresh_from_db()
    return version
