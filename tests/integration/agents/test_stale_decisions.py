"""Nothing runs by a decision that is no longer the policies': asked in the transaction that claims."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.engine import gate
from agents.engine.execute import execute
from agents.engine.hot import turn
from agents.engine.hot.values import Claim, Claimed, Otherwise
from agents.engine.intake import NewStep
from agents.models import Job, Repository, Step
from agents.provenance import labels
from agents.states import StepState
from approvals.decisions import decide
from approvals.models import ApprovalRequest, FreezeWindow
from approvals.policy import freezes
from audit.enrolment import process_key
from tests.factories.log import bodies, events
from tests.factories.people import user
from tests.factories.policies import publish
from tests.factories.rules import publish_rules
from tests.integration.agents.driving import HERE, run_all, states, step_of, submit
from tools import permits
from tools.errors import PermitSpent
from tools.models import Permit

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]


def step(key: str, *needs: str, tool: str = "test.note", **arguments: Any) -> NewStep:
    return NewStep(key=key, tool=tool, arguments=arguments, needs=needs)


def run(one: Step) -> Step:
    """Plays one message about the step."""
    execute(one.pk, one.attempt, HERE)
    return Step.objects.get(pk=one.pk)


def queued(*, tool: str = "test.note") -> tuple[Job, Step]:
    job = submit(step("a", tool=tool, text="a"))
    one = step_of(job, "a")
    assert one.state == StepState.QUEUED
    return job, one


def approved(job: Job, key: str = "a") -> Step:
    """The step of which people have just approved; it waits for its worker."""
    one = step_of(job, key)
    execute(one.pk, one.attempt, HERE)  # the preview
    request = ApprovalRequest.objects.get(subject_id=str(one.pk), state="pending")
    decide(request_id=request.pk, by=user("pat"), verdict="approve", reason="", channel="page", now=timezone.now())
    one.refresh_from_db()
    assert one.state == StepState.QUEUED
    return one


@pytest.fixture
def pat():
    return user("pat", groups=("approvers",))


@pytest.mark.parametrize("hot", [True, False])
def test_a_step_queued_under_old_policies_is_decided_anew(hot, test_tools):
    publish(("test.*", "allow"))
    run_all(submit(step("first")))  # its records enrol this process, which the hot path asks for
    assert process_key().enrolled
    _, one = queued()
    old = one.permit_id
    if hot:
        wish = Claim(step_id=one.pk, fence=one.attempt, delivery=HERE, since=0.0)
        publish(("test.*", "deny"))
        assert turn.take([wish])[0] is Otherwise.GENERAL
    else:
        publish(("test.*", "deny"))
    test_tools.RAN.clear()
    one = run(one)
    assert (one.state, one.error_code) == (StepState.REFUSED, "policy_denied")
    assert test_tools.RAN == []
    with pytest.raises(PermitSpent):
        permits.spend(old, digest=Permit.objects.get(pk=old).digest, by="late", now=timezone.now())
    assert ("step.requeued", "decided_anew") in events(one.pk)


def test_the_hot_path_claims_what_was_decided_by_the_set_in_force():
    publish(("test.*", "allow"))
    run_all(submit(step("first")))
    _, one = queued()
    answer = turn.take([Claim(step_id=one.pk, fence=one.attempt, delivery=HERE, since=0.0)])[0]
    assert isinstance(answer, Claimed)
    assert answer.call.policy == one.decision["policy_version_id"]


def test_a_permit_is_good_for_its_policy_version_only():
    publish(("test.*", "allow"))
    _, one = queued()
    version = publish(("test.*", "allow"))
    done = run(one)
    assert done.state == StepState.SUCCEEDED
    assert done.permit_id != one.permit_id
    assert done.decision["policy_version_id"] == str(version.pk)
    assert Permit.objects.get(pk=one.permit_id).spent_at is None


def test_an_approval_does_not_outlive_its_policy_version(pat, test_tools):
    publish(("test.*", "ask"))
    job = submit(step("a", tool="test.once", text="a"))
    one = approved(job)
    first = one.approval_id
    publish(("test.*", "ask"))
    one = run(one)
    assert ApprovalRequest.objects.get(pk=first).state == "void"
    assert one.state == StepState.READY  # people are asked anew
    run(one)
    again = ApprovalRequest.objects.get(subject_id=str(one.pk), state="pending")
    assert again.pk != first
    assert test_tools.RAN == []


def test_an_approval_stands_where_another_policy_was_published(pat, test_tools):
    publish(("test.*", "ask"))
    job = submit(step("a", tool="test.once", text="a"))
    one = approved(job)
    publish(("other.*", "deny"), name="beside")
    one = run(one)
    assert one.state == StepState.SUCCEEDED
    assert len(test_tools.RAN) == 1


def test_an_approval_is_void_where_another_policy_denies_now(pat, test_tools):
    publish(("test.*", "ask"))
    one = approved(submit(step("a", tool="test.once", text="a")))
    publish(("test.once", "deny"), name="beside")
    assert run(one).state == StepState.REFUSED
    assert ApprovalRequest.objects.get(pk=one.approval_id).state == "void"
    assert test_tools.RAN == []


def test_a_window_that_closed_before_the_claim_keeps_the_step_from_running(monkeypatch, test_tools):
    now = timezone.now()
    hour = f"{now:%H}:00"
    later = f"{(now + timedelta(hours=2)):%H}:00"
    publish_rules({"tools": ["test.*"], "match": {"time": {"zone": "UTC", "from": hour, "to": later}}})
    _, one = queued()
    assert one.decision["passing"] is True
    monkeypatch.setattr("agents.engine.execute.timezone.now", lambda: now + timedelta(hours=5))
    assert run(one).state == StepState.REFUSED
    assert test_tools.RAN == []


def test_a_freeze_that_begins_after_the_decision_holds_at_the_claim(test_tools):
    publish(("test.*", "allow"))
    boss = user("boss")
    _, one = queued(tool="test.once")
    _, other = queued(tool="test.note")
    now = timezone.now()
    window = FreezeWindow(
        name="release", reason="We release.", starts_at=now - timedelta(minutes=1), ends_at=now + timedelta(hours=1)
    )
    freezes.save(window, by=boss)
    one = run(one)
    assert (one.state, one.decision["policy"], one.decision["rule"]) == (StepState.REFUSED, "freeze", "release")
    assert "We release." in one.error
    assert run(other).state == StepState.SUCCEEDED  # it is about effects that cannot be repeated
    window.effects = []
    freezes.save(window, by=boss)
    assert states(submit(step("a")))["a"] == "refused"
    window_id = window.pk
    freezes.delete(window, by=boss)
    assert states(submit(step("a", tool="test.once")))["a"] == "queued"
    told = [body["context"]["action"] for body in bodies(window_id, "freeze.changed")]
    assert told == ["created", "changed", "deleted"]


def test_a_freeze_that_is_yet_to_come_leaves_steps_on_the_hot_path(test_tools):
    publish(("test.*", "allow"))
    run_all(submit(step("first")))
    now = timezone.now()
    window = FreezeWindow(
        name="later", reason="", effects=[], starts_at=now + timedelta(days=9), ends_at=now + timedelta(days=10)
    )
    freezes.save(window, by=user("boss"))
    _, one = queued()
    assert one.decision.get("passing", False) is False
    wish = Claim(step_id=one.pk, fence=one.attempt, delivery=HERE, since=0.0)
    _, other = queued()
    assert isinstance(turn.take([wish])[0], Claimed)
    FreezeWindow.objects.filter(pk=window.pk).update(starts_at=now - timedelta(seconds=1))
    publish(("test.*", "allow"))  # the window is read anew, as where its time comes
    _, last = queued_or_refused()
    assert last.state == StepState.REFUSED
    assert run(other).state == StepState.REFUSED


def queued_or_refused() -> tuple[Job, Step]:
    job = submit(step("a", text="a"))
    return job, step_of(job, "a")


def test_a_freeze_allows_nothing_that_no_policy_allows(pat):
    publish(("files.*", "allow"))
    now = timezone.now()
    group = pat.groups.get()
    window = FreezeWindow(
        name="ask-first", reason="", effect="ask", approvers=group, effects=[],
        starts_at=now - timedelta(hours=1), ends_at=now + timedelta(hours=1),
    )  # fmt: skip
    freezes.save(window, by=user("boss"))
    assert states(submit(step("a")))["a"] == "refused"


def test_a_freeze_is_for_its_environments(pat):
    publish(("*", "allow"))
    now = timezone.now()
    window = FreezeWindow(
        name="prod", reason="No.", environments=["prod*"], tools=["test.*"], effects=[],
        starts_at=now - timedelta(hours=1), ends_at=now + timedelta(hours=1),
    )  # fmt: skip
    freezes.save(window, by=user("boss"))
    live = Repository.objects.create(name="live", url="https://x.example/l", owner=pat, environment="production")
    play = Repository.objects.create(name="play", url="https://x.example/p", owner=pat, environment="play")
    labels = {"environment": "play"}  # of a job: whoever submits it says so, and it counts for nothing
    assert _asked(submit(step("a"), repository=live, labels=labels)) == "deny"
    assert _asked(submit(step("a"), repository=play)) == "allow"


def _asked(job: Job) -> str:
    return gate.decide(job, Step.objects.get(job=job, tool="test.note"), now=timezone.now())[0].effect


def test_what_was_read_before_is_asked_about_when_it_would_go_out(pat, test_tools):
    publish_rules(
        {"tools": ["test.read"], "constraints": {"gives": ["private"]}},
        {"name": "send-after-reading", "tools": ["test.once"], "effect": "ask", "match": {"after": ["private"]}},
        {"tools": ["test.once", "test.note"]},
    )
    before = submit(step("send", tool="test.once", text="s"))
    assert run_all(before).state == "succeeded"
    job = submit(step("read", tool="test.read"), step("send", "read", tool="test.once", text="s"))
    run_all(job)
    assert states(job) == {"read": "succeeded", "send": "waiting_approval"}
    assert step_of(job, "send").decision["rule"] == "send-after-reading"
    assert labels.seen(job.pk, but=step_of(job, "send").pk) == {"private", "untrusted"}


def test_a_label_that_comes_while_a_step_is_queued_counts_at_its_claim(pat, test_tools):
    publish_rules(
        {"tools": ["test.read"], "constraints": {"gives": ["private"]}},
        {"tools": ["test.once"], "effect": "ask", "match": {"after": ["private"]}},
        {"tools": ["test.once"]},
    )
    job = submit(step("read", tool="test.read"), step("send", tool="test.once", text="s"))
    assert states(job) == {"read": "queued", "send": "queued"}
    run(step_of(job, "read"))
    assert run(step_of(job, "send")).state == StepState.READY
    assert [name for name, _ in test_tools.RAN] == ["test.read"]


def test_labels_stick_to_the_family(pat):
    publish_rules({"tools": ["test.read"], "constraints": {"gives": ["private"]}}, {"tools": ["*"]})
    parent = submit(step("a", tool="test.note"))
    child = submit(step("read", tool="test.read"))
    Job.objects.filter(pk=child.pk).update(parent=parent, parent_step=step_of(parent, "a"))
    run_all(child)
    fork = submit(step("b", tool="test.note"))
    Job.objects.filter(pk=fork.pk).update(forked_from=parent)
    fork.refresh_from_db()
    for job, key in ((parent, "a"), (fork, "b")):
        assert "private" in labels.seen(job.pk, but=step_of(job, key).pk)
    assert labels.seen(submit(step("c")).pk, but=step_of(child, "read").pk) == frozenset()


def test_the_first_use_of_a_tool_is_asked_about_and_the_next_is_not(pat):
    publish_rules(
        {"tools": ["test.note"], "effect": "ask", "match": {"first_use": True}, "name": "first"},
        {"tools": ["test.*"], "name": "then"},
    )
    run_all(job := submit(step("a", text="1")))
    assert step_of(job, "a").state == StepState.WAITING_APPROVAL
    request = ApprovalRequest.objects.get(subject_id=str(step_of(job, "a").pk))
    decide(request_id=request.pk, by=pat, verdict="approve", reason="", channel="page", now=timezone.now())
    assert run_all(job).state == "succeeded"
    assert run_all(submit(step("a", text="2"))).state == "succeeded"


def test_a_budget_that_is_used_up_denies_the_next_call(test_tools):
    publish_rules(
        {"tools": ["test.note"], "effect": "deny", "match": {"spent": {"per": "job", "calls": 2, "tools": ["test.note"]}},
         "reason": "Two notes are enough."},
        {"tools": ["test.*"]},
    )  # fmt: skip
    job = submit(step("a"), step("b"), step("c"), step("r", tool="test.read"))
    assert set(states(job).values()) == {"queued"}  # at that time none had begun
    run_all(job)
    assert sorted(states(job).values()) == ["refused", "succeeded", "succeeded", "succeeded"]
    assert Step.objects.get(job=job, state="refused").error == "Two notes are enough."


def test_an_owners_day_counts_over_jobs(test_tools):
    publish_rules(
        {"tools": ["test.*"], "effect": "deny", "match": {"spent": {"per": "owner", "hours": 24, "calls": 2}}},
        {"tools": ["test.*"]},
    )
    assert run_all(submit(step("a"), step("b"))).state == "succeeded"
    assert run_all(submit(step("c"))).state == "failed"
    Step.objects.filter(state="succeeded").update(started_at=timezone.now() - timedelta(hours=25))
    assert run_all(submit(step("d"))).state == "succeeded"


def test_conditions_that_read_what_was_spent_get_it(test_tools):
    publish(("test.*", "allow", "job.spent.calls < 1 && job.owner_spent.tokens == 0"))
    job = submit(step("a"), step("b", "a"))
    run_all(job)
    assert states(job) == {"a": "succeeded", "b": "refused"}
