"""Attacks on what people approved: another's permit, one used twice, a changed policy, one's own approval in disguise, clocks
that differ."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from agents.engine.execute import execute
from agents.engine.gate import call_of
from agents.models import Job, Step
from agents.states import StepState
from agents.tokens import create_token
from approvals.decisions import decide
from approvals.errors import DecisionError
from approvals.models import ApprovalRequest, Delegation, PolicyVersion, Vote
from audit.actor import Actor
from tests.factories import approvals, people, tools
from tests.factories.jobs import agent
from tests.factories.policies import publish
from tests.factories.states import move
from tests.integration.agents.test_engine import HERE, run_queued, states, step, submit
from tools import permits
from tools.errors import PermitMismatch, PermitSpent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def test_tools(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr("agents.engine.leases.LOOK_S", 0.05)
    with tools.registered():
        yield


def asked(*keys: str, tool: str = "test.note", quorum: int = 1, text: str = "same") -> Job:
    """A job with one step a key, each the same call, for all of which people are asked."""
    if not PolicyVersion.objects.filter(status="published").exists():
        publish(("test.*", "ask"), quorum=quorum)
    job = submit(*(step(key, tool, text=text) for key in keys))
    run_queued(job)
    assert set(states(job).values()) == {"waiting_approval"}
    return job


def one(job: Job, key: str) -> Step:
    return Step.objects.get(job=job, key=key)


def request_of(job: Job, key: str) -> ApprovalRequest:
    return ApprovalRequest.objects.get(pk=one(job, key).approval_id)


def approve(request: ApprovalRequest, by: User, **how: Any) -> ApprovalRequest:
    given = {"verdict": "approve", "reason": "", "channel": "page", "now": timezone.now(), **how}
    return decide(request_id=request.pk, by=by, **given)


def refused(request: ApprovalRequest, by: User, **how: Any) -> str:
    with pytest.raises(DecisionError) as error:
        approve(request, by, **how)
    assert not Vote.objects.filter(request=request).exists()
    return error.value.code


def ran() -> int:
    return len(tools.RAN)


def test_an_approval_swapped_to_the_same_call_of_another_step_runs_nothing():
    """Whoever could write the step's row, but not the permits, has nothing from another step's."""
    (grace,) = approvals.approvers("grace")
    job = asked("a", "b")
    approve(request_of(job, "a"), grace)
    given, target = one(job, "a"), one(job, "b")
    assert given.state == StepState.QUEUED and given.permit_id is not None
    move(target, StepState.QUEUED, approval_id=given.approval_id, permit_id=given.permit_id)
    execute(target.pk, target.attempt, HERE)
    assert ran() == 0
    target.refresh_from_db()
    assert target.state != StepState.SUCCEEDED and target.approval_id != given.approval_id


def test_a_permit_swapped_between_jobs_runs_nothing():
    (grace,) = approvals.approvers("grace")
    first, second = asked("a"), asked("a")
    approve(request_of(first, "a"), grace)
    given, target = one(first, "a"), one(second, "a")
    approve(request_of(second, "a"), grace)
    Step.objects.filter(pk=target.pk).update(permit_id=given.permit_id)
    target.refresh_from_db()
    execute(target.pk, target.attempt, HERE)
    assert ran() == 0
    assert one(second, "a").state != StepState.SUCCEEDED
    run_queued(first)
    assert ran() == 1  # the one that it was given to


def test_a_permit_of_another_step_s_same_call_is_not_spent():
    now = timezone.now()
    permit = permits.issue(subject="step-1", digest="d" * 64, granted_by="approval", now=now)
    with pytest.raises(PermitMismatch):
        permits.spend(permit.pk, digest="d" * 64, by="w", now=now, subject="step-2")
    with pytest.raises(PermitMismatch):
        permits.spend(permit.pk, digest="e" * 64, by="w", now=now, subject="step-1")
    permit.refresh_from_db()
    assert permit.spent_at is None


def test_a_permit_is_used_once():
    (grace,) = approvals.approvers("grace")
    job = asked("a")
    approve(request_of(job, "a"), grace)
    target = one(job, "a")
    for _ in range(3):
        execute(target.pk, target.attempt, HERE)
    assert ran() == 1
    assert target.permit_id is not None
    with pytest.raises(PermitSpent):
        digest = call_of(target).digest()
        permits.spend(target.permit_id, digest=digest, by="w", now=timezone.now(), subject=str(target.pk))


@pytest.mark.parametrize("change", [("test.*", "deny"), ("test.*", "ask")], ids=["denied", "asked anew"])
def test_a_permit_from_before_a_policy_change_runs_nothing(change):
    (grace,) = approvals.approvers("grace")
    job = asked("a")
    before = request_of(job, "a")
    approve(before, grace)
    publish(change)
    run_queued(job)
    assert ran() == 0
    before.refresh_from_db()
    assert before.state == "void"
    left = one(job, "a")
    assert left.state == (StepState.REFUSED if change[1] == "deny" else StepState.WAITING_APPROVAL)


def test_arguments_that_change_after_the_approval_run_nothing():
    (grace,) = approvals.approvers("grace")
    job = asked("a")
    approve(request_of(job, "a"), grace)
    Step.objects.filter(job=job).update(arguments={"text": "evil"})
    run_queued(job)
    assert ran() == 0
    assert request_of(job, "a").state == "pending"  # people are asked about what it is now


def test_what_it_acts_on_changes_after_the_approval_and_nothing_runs():
    (grace,) = approvals.approvers("grace")
    tools.STATE["target"] = "commit 1"
    job = asked("a", tool="test.once")
    approve(request_of(job, "a"), grace)
    tools.STATE["target"] = "commit 2"
    run_queued(job)
    assert ran() == 0


def test_nobody_approves_their_own_by_joining_the_group_nor_as_a_superuser():
    job = asked("a")
    ada = job.owner
    ada.groups.add(Group.objects.get(name="approvers"))
    assert refused(request_of(job, "a"), ada) == "not_eligible"
    User.objects.filter(pk=ada.pk).update(is_superuser=True, is_staff=True)
    assert refused(request_of(job, "a"), User.objects.get(pk=ada.pk)) == "not_eligible"


def test_nobody_approves_their_own_through_a_deputy_nor_as_one():
    grace, alan = approvals.approvers("grace", "alan")
    job = asked("a")
    ada = job.owner
    ada.groups.add(Group.objects.get(name="approvers"))
    bob = people.user("bob")
    now = timezone.now()
    span = {"starts_at": now - timedelta(hours=1), "ends_at": now + timedelta(hours=1)}
    Delegation.objects.create(person=ada, deputy=bob, **span)
    Delegation.objects.create(person=grace, deputy=ada, **span)
    request = request_of(job, "a")
    assert refused(request, bob) == "not_eligible"  # in ada's place, who may not
    assert refused(request, ada) == "not_eligible"  # in grace's place, but it is ada's own
    Delegation.objects.create(person=alan, deputy=grace, **span)
    ApprovalRequest.objects.filter(pk=request.pk).update(quorum=2)
    request = approve(request, grace)
    assert request.state == "pending"
    with pytest.raises(DecisionError):
        approve(request, grace)  # a deputy is not two people
    assert ApprovalRequest.objects.get(pk=request.pk).state == "pending"


@pytest.mark.parametrize("channel", ["page", "api", "admin", "cli", "slack", "batch"])
def test_nobody_approves_their_own_by_any_channel(channel):
    job = asked("a")
    job.owner.groups.add(Group.objects.get(name="approvers"))
    assert refused(request_of(job, "a"), job.owner, channel=channel) == "not_eligible"


def test_nobody_approves_by_api_what_was_submitted_with_a_token_that_they_made():
    """Mallory makes a token for the robot, submits with it, and approves as herself: the token names her."""
    mallory = people.user("mallory", groups=("approvers",))
    robot = people.user("robot")
    publish(("*", "ask"))
    _, secret = create_token(
        user=robot, name="ci", scopes=["jobs:write", "jobs:read"], now=timezone.now(), actor=Actor.user(mallory.pk)
    )
    plan = {"steps": [{"key": "a", "tool": "test.note", "arguments": {"text": "a"}}], "title": "t"}
    answer = Client().post(
        "/api/v1/jobs", plan, content_type="application/json", headers={"Authorization": f"Bearer {secret}"}
    )
    assert answer.status_code == 201, answer.content
    job = Job.objects.get(pk=answer.json()["id"])
    run_queued(job)
    assert job.owner == robot
    assert refused(request_of(job, "a"), mallory) == "not_eligible"


def test_a_token_of_the_requester_approves_nothing_of_theirs_either():
    job = asked("a")
    job.owner.groups.add(Group.objects.get(name="approvers"))
    request = request_of(job, "a")
    scopes = ["approvals:read", "approvals:decide"]
    _, secret = create_token(
        user=job.owner, name="me", scopes=scopes, now=timezone.now(), actor=Actor.user(job.owner_id)
    )
    answer = Client().post(
        f"/api/v1/approvals/{request.pk}/approve",
        {},
        content_type="application/json",
        headers={"Authorization": f"Bearer {secret}"},
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "not_eligible")


def test_nobody_approves_what_their_job_handed_to_a_child_job_nor_what_their_agent_does():
    """The child is another's by name; who handed the work down, and whose agent it is, are known all the same."""
    mallory, owner = people.user("mallory", groups=("approvers",)), people.user("agnes", groups=("approvers",))
    parent = submit(step("p", text="p"))
    Job.objects.filter(pk=parent.pk).update(owner=mallory)
    publish(("test.*", "ask"))
    child = submit(step("a", text="a"))
    working = agent("helper", tools=("test.*",), owner=owner)
    Job.objects.filter(pk=child.pk).update(parent=parent, agent=working)
    run_queued(child)
    request = request_of(child, "a")
    assert refused(request, mallory) == "not_eligible"
    assert refused(request, owner) == "not_eligible"
    assert set(request.excluded_as.values()) >= {"requester", "delegator", "agent owner"}


def test_who_leaves_the_group_after_approving_lets_nothing_run():
    (grace,) = approvals.approvers("grace")
    job = asked("a")
    request = approve(request_of(job, "a"), grace)
    grace.groups.clear()
    run_queued(job)
    assert ran() == 0
    request.refresh_from_db()
    assert request.state == "void"


def test_clock_skew_an_approval_whose_time_is_over_by_the_worker_s_clock_runs_nothing():
    (grace,) = approvals.approvers("grace")
    job = asked("a")
    request = approve(request_of(job, "a"), grace)
    assert request.execution_expires_at is not None
    past = timezone.now() - timedelta(seconds=1)
    ApprovalRequest.objects.filter(pk=request.pk).update(execution_expires_at=past)
    run_queued(job)
    assert ran() == 0


def test_clock_skew_a_vote_dated_back_by_a_slow_clock_opens_no_request_that_is_closed():
    """The row says that it is over: no clock of an application brings it back."""
    (grace,) = approvals.approvers("grace")
    job = asked("a")
    request = request_of(job, "a")
    assert refused(request, grace, now=request.expires_at + timedelta(seconds=1)) == "request_expired"
    ApprovalRequest.objects.filter(pk=request.pk).update(state="expired")
    assert refused(request, grace, now=request.created_at) == "already_decided"


def test_clock_skew_a_second_factor_of_the_future_or_of_long_ago_counts_for_nothing(settings):
    settings.STEP_UP = True
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    now = timezone.now()
    for at in (None, now - timedelta(seconds=settings.STEP_UP_FRESH_S + 1), now + timedelta(hours=1)):
        assert refused(request, grace, second_factor_at=at, now=now) == "second_factor_needed"
    approve(request, grace, second_factor_at=now, now=now)
