"""Drafts tried on what the engine decided: real steps, real records, the real order of the log."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from agents.engine.recover import sweep
from agents.models import Step
from approvals.models import PolicyRule, PolicyVersion
from approvals.policy import backtest, recorded, shadow, versions
from audit import sequence
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.driving import run_all, step_of, submit
from tests.integration.agents.test_engine import step

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]


def draft_of(live: PolicyVersion, **changes: object) -> PolicyVersion:
    draft = versions.new_draft(live.policy, source=live, by=None)
    draft.rules.update(**changes)
    return draft


def test_what_the_engine_decided_is_read_back_as_it_was_decided():
    publish(("test.*", "allow", "'staff' in job.groups"))
    owner = user("ada", groups=("staff",))
    job = run_all(submit(step("one", text="a"), step("two", "test.note", "one"), step("push", "git.push", branch="b")))
    owner.groups.set([Group.objects.get_or_create(name="others")[0]])  # after the fact
    found, cursor = recorded.source().page(
        timezone.now() - timedelta(hours=1), timezone.now() + timedelta(seconds=1), before="", limit=50
    )
    assert (len(found), cursor) == (3, "")
    one = next(row for row in found if row.subject_id == str(step_of(job, "one").pk))
    assert (one.inputs[0].groups, one.exact, one.decision.effect) == (["staff"], True, "allow")
    assert (one.inputs[0].owner, one.inputs[0].arguments) == ("ada", {"text": "a"})
    push = next(row for row in found if row.inputs[0].tool == "git.push")
    assert (push.decision.effect, push.inputs[0].target_branch, push.inputs[0].programs) == ("deny", "b", ("git",))


def test_pages_of_decisions_join_without_gap_or_double():
    publish(("test.*", "allow"))
    run_all(submit(*(step(f"s{place}") for place in range(7))))
    source, seen, cursor = recorded.source(), [], ""
    since, until = timezone.now() - timedelta(hours=1), timezone.now() + timedelta(seconds=1)
    for _ in range(4):
        page, cursor = source.page(since, until, before=cursor, limit=2)
        seen += [one.subject_id for one in page]
    assert cursor == ""
    assert sorted(seen) == sorted(str(pk) for pk in Step.objects.values_list("pk", flat=True))
    assert source.count(since, until) == 7
    assert source.count(until, until + timedelta(hours=1)) == 0


def test_a_backtest_finds_the_real_flips_and_the_sweeper_goes_on_with_it():
    live = publish(("test.*", "allow"))
    run_all(submit(step("one"), step("two"), step("push", "git.push", branch="b")))
    draft = draft_of(live, effect="deny")
    PolicyRule.objects.create(version=draft, order=9, name="pushes", tools=["git.*"], effect="allow")
    backtest.start(draft.pk, days=30, by=None, now=timezone.now() + timedelta(seconds=1))
    assert sweep(timezone.now())["backtests"] == 1
    draft.refresh_from_db()
    assert (draft.backtest["state"], draft.backtest["inexact"]) == ("done", 0)
    assert draft.backtest["counts"] == {"allow->deny": 2, "deny->allow": 1}
    (first, *_) = draft.backtest["groups"]
    assert first["examples"][0]["command"].startswith("git push")
    assert first["examples"][0]["path"].startswith("/jobs/")


def test_a_shadow_sees_each_decision_after_it_was_taken_and_changes_none():
    live = publish(("test.*", "allow"))
    draft = draft_of(live, effect="deny")
    sequence.drain()
    shadow.start(draft.pk, by=user("ada"), now=timezone.now())
    job = run_all(submit(step("one"), step("two", "test.note", "one")))
    assert job.state == "succeeded"
    assert not draft.differences.exists()
    sequence.drain()
    assert sweep(timezone.now())["shadows"] == 2
    assert {(one.subject_id, one.draft["effect"]) for one in draft.differences.all()} == {
        (str(pk), "deny") for pk in Step.objects.filter(job=job).values_list("pk", flat=True)
    }
    assert {one.live["path"] for one in draft.differences.all()} == {job.get_absolute_url()}
