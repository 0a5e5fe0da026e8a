"""Servers that are older than a tool are told, and offered a draft."""

import io

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command

from approvals import defaults
from approvals.models import PolicyRule
from approvals.policy import versions
from config.doctor import installation
from tests.factories import people
from tests.integration.approvals.test_policy_lifecycle import draft, publish

pytestmark = pytest.mark.django_db


def test_what_a_new_server_starts_with_names_every_tool():
    people.user("grace", groups=("approvers",))
    assert defaults.uncovered() == []  # with nothing published there is something else to say
    defaults.ensure_policies(Group.objects.get(name="approvers"))
    assert defaults.uncovered() == []
    assert defaults.draft_for_uncovered(None) is None
    assert [str(finding.level) for finding in installation.policies()] == ["ok"]


def test_an_older_server_is_told_and_gets_a_draft_that_names_them_all():
    root = people.user("root", groups=("approvers",), is_superuser=True)
    publish(draft({"tools": ["files.*", "llm.*"]}, {"name": "git-local", "tools": ["git.add"]}, name="default"))
    assert "git.push" in defaults.uncovered()
    told = [finding for finding in installation.policies() if finding.todo]
    assert "git.push_tag" in told[0].says and "policy cover" in told[0].todo
    out = io.StringIO()
    call_command("policy", "cover", stdout=out)
    assert out.getvalue().startswith("default@2 is a draft with rules for ")
    assert "git.branch" in out.getvalue()
    made = PolicyRule.objects.filter(version__number=2)
    assert made.get(name="git-push").approvers == root.groups.get()
    assert made.get(name="git-local-2").effect == "allow"
    version = made[0].version
    assert versions.problems(version) == []
    publish(version)
    assert defaults.uncovered() == []
