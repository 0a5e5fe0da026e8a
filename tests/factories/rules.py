"""Published policies of whole rules, for what the short form of `policies.publish` cannot say."""

from typing import Any

from django.contrib.auth.models import Group
from django.utils import timezone

from approvals.models import Policy, PolicyRule, PolicyVersion
from approvals.policy import rules as checks


def publish_rules(*rules: dict[str, Any], name: str = "testing", approvers: str = "approvers") -> PolicyVersion:
    """Puts these in force in place of the policy's version before; each is sound, as one that people publish."""
    group, _ = Group.objects.get_or_create(name=approvers)
    policy, _ = Policy.objects.get_or_create(name=name)
    policy.versions.filter(status="published").update(status="retired")
    version = PolicyVersion.objects.create(policy=policy, number=policy.versions.count() + 1)
    for order, rule in enumerate(rules, start=1):
        given = {"name": f"rule-{order}", "tools": ["*"], "effect": "allow", **rule}
        if given["effect"] == "ask":
            given.setdefault("approvers", group)
        made = PolicyRule.objects.create(version=version, order=order, **given)
        assert checks.text_problems(made) == []
    PolicyVersion.objects.filter(pk=version.pk).update(status="published", published_at=timezone.now())
    version.refresh_from_db()
    return version
