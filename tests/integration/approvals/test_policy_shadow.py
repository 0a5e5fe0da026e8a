"""A draft in shadow: what it would have said otherwise, without any say."""

from datetime import timedelta

import pytest
from django.utils import timezone

from approvals.errors import InvalidPolicy, NotADraft
from approvals.models import PolicyVersion
from approvals.policy import shadow, versions
from tests.factories import people
from tests.factories.log import bodies, events
from tests.integration.approvals.recording import call, decided, played
from tests.integration.approvals.test_policy_lifecycle import draft, publish

pytestmark = pytest.mark.django_db


def started(version: PolicyVersion) -> PolicyVersion:
    return shadow.start(version.pk, by=people.user("ada"), now=timezone.now())


def differences(version: PolicyVersion) -> list[tuple[str, str, str]]:
    return [(one.tool, one.live["effect"], one.draft["effect"]) for one in version.differences.order_by("at")]


def test_it_keeps_what_the_draft_would_have_said_otherwise_from_its_start_on():
    version = draft({"tools": ["git.*"]}, {"tools": ["shell.*"], "effect": "deny"})
    with played(decided(1, "deny")) as source:
        started(version)
        source.add(decided(2, "deny"))
        source.add(decided(3, "allow", call("git.tag")))
        source.add(decided(4, "allow", call("shell.exec"), hours_ago=0.5))
        assert shadow.run_due(timezone.now()) == 3
        assert shadow.run_due(timezone.now()) == 0
    version.refresh_from_db()
    assert differences(version) == [("git.push", "deny", "allow"), ("shell.exec", "allow", "deny")]
    assert (version.shadow["compared"], version.shadow["differ"]) == (3, 2)
    (first, _) = version.differences.order_by("at")
    assert (first.live["policy"], first.draft["rule"], first.subject_id) == ("old@1", "rule-1", "000002")


def test_it_ends_by_itself_and_its_differences_stay(settings):
    settings.POLICY_SHADOW_DAYS = 2
    version = draft({"effect": "allow"})
    with played() as source:
        started(version)
        source.add(decided(1, "deny"))
        shadow.run_due(timezone.now())
        shadow.run_due(timezone.now() + timedelta(days=2, minutes=1))
    version.refresh_from_db()
    assert (version.shadow_since, len(differences(version))) == (None, 1)
    assert events(version.pk, prefix="policy.shadowed") == [
        ("policy.shadowed", "started"),
        ("policy.shadowed", "ended"),
    ]
    assert bodies(version.pk, "policy.shadowed")[1]["context"]["differ"] == 1


def test_an_edit_begins_it_anew_and_publishing_ends_it():
    version = draft({"effect": "allow"})
    with played() as source:
        started(version)
        source.add(decided(1, "deny"))
        shadow.run_due(timezone.now())
        version.rules.update(effect="deny")
        source.add(decided(2, "allow"))
        shadow.run_due(timezone.now())
        version.refresh_from_db()
        assert differences(version) == [("git.push", "allow", "deny")]
        assert version.shadow["compared"] == 1
    publish(version)
    version.refresh_from_db()
    assert version.shadow_since is None


def test_only_a_draft_that_could_work_runs_in_shadow():
    with pytest.raises(InvalidPolicy):
        started(draft())
    with pytest.raises(NotADraft):
        started(publish(draft({"effect": "allow"})))


def test_who_is_asked_counts_as_a_difference_too():
    approver = people.user("grace", groups=("sre",))
    version = draft({"effect": "ask", "approvers": approver.groups.get(), "quorum": 1})
    with played() as source:
        started(version)
        source.add(decided(1, "ask", approvers_id=approver.groups.get().pk))
        source.add(decided(2, "ask", approvers_id=approver.groups.get().pk, quorum=2))
        shadow.run_due(timezone.now())
    assert [one.subject_id for one in version.differences.all()] == ["000002"]
    shadow.stop(version.pk, by=approver)
    assert versions.problems(version) == []
