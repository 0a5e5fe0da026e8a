"""Steps of the engine while people decide or cancel, and the limits of a job."""

from datetime import timedelta
from functools import partial

import pytest
from django.utils import timezone

from agents.engine import recover, settle
from agents.engine.cancel import cancel_job
from agents.engine.execute import execute
from agents.engine.intake import NewJob, create_job
from agents.models import Job, Step
from agents.states import JobState, StepState
from approvals.errors import DecisionError
from approvals.expiry import expire_due
from approvals.models import ApprovalRequest
from audit.actor import Actor
from tests.factories.jobs import agent
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.test_engine import HERE, begin, run_queued, states, step, submit
from tests.integration.agents.test_engine_recovery import MINUTE, approve, only, side_by_side
from tools.spec import Result

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]


# people in between


@pytest.mark.parametrize("where", ["pending", "ready", "waiting_approval", "queued", "running", "in_doubt", "retry"])
def test_a_job_that_is_cancelled_in_any_state_of_a_step_ends_cancelled(test_tools, where):
    rule = "ask" if where in {"ready", "waiting_approval"} else "allow"
    publish(("test.once", rule), ("test.*", "allow"))
    repeatable = where in {"retry", "pending"}
    first = step("a", "test.note", fail="transient") if repeatable else step("a", "test.once", text="x")
    job = submit(first, step("b", "test.note", "a"))
    one = Step.objects.get(job=job, key="a")
    if where in {"waiting_approval", "retry"}:
        execute(one.pk, 0, HERE)
    elif where in {"running", "in_doubt"}:
        begin(one)
    if where == "in_doubt":
        recover.expire_leases(timezone.now() + MINUTE)
    expected = {"pending": "queued", "retry": "queued"}.get(where, where)
    assert states(job) == {"a": expected, "b": "pending"}
    cancel_job(job.pk, by=Actor.user(1), now=timezone.now())
    if where == "running":  # its worker is dead and will not hear of it
        recover.expire_leases(timezone.now() + MINUTE)
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED
    assert states(job) == {"a": "cancelled", "b": "cancelled"}
    assert ("may have happened" in Step.objects.get(pk=one.pk).error) == (where in {"running", "in_doubt"})
    assert not ApprovalRequest.objects.filter(state="pending").exists()
    ran = list(test_tools.RAN)
    run_queued(job)
    recover.sweep(timezone.now() + timedelta(days=1))
    assert list(test_tools.RAN) == ran


def test_a_transient_failure_in_the_moment_of_a_cancel_does_not_wait_for_ever():
    publish(("test.*", "allow"))
    job = submit(step("a", text="a"))
    claim = begin(only(job))
    cancel_job(job.pk, by=Actor.user(1), now=timezone.now())
    failed = settle.Lost("lost")
    failed.transient = True
    settle.settle(claim.step, failed, worker="w", cancelled=False, now=timezone.now())
    job.refresh_from_db()
    assert (job.state, only(job).state) == (JobState.CANCELLED, StepState.CANCELLED)


def test_a_decision_a_cancel_and_an_expiry_at_once_end_in_one_of_them_and_no_deadlock(test_tools):
    publish(("test.once", "ask"), ("test.*", "allow"))
    approver = user("grace", groups=("approvers",))
    for n in range(8):
        job = submit(step("a", "test.once", text=str(n)))
        if n % 2:
            execute(only(job).pk, 0, HERE)
        late = timezone.now() + timedelta(days=8)

        def approve_what_is_asked(job: Job = job) -> None:
            found = ApprovalRequest.objects.filter(parent_id=str(job.pk), state="pending").first()
            if found is not None:
                approve(found, approver)

        raised = side_by_side(
            approve_what_is_asked,
            partial(execute, only(job).pk, 0, HERE),
            partial(cancel_job, job.pk, by=Actor.user(1), now=timezone.now()),
            partial(expire_due, late),
        )
        assert all(isinstance(error, DecisionError) for error in raised), raised
        expire_due(late)
        run_queued(job)
        assert job.state in {JobState.CANCELLED, JobState.FAILED, JobState.SUCCEEDED}
        assert not ApprovalRequest.objects.filter(parent_id=str(job.pk), state="pending").exists()


def test_of_an_approval_and_its_expiry_at_once_one_wins_and_the_step_follows_it(test_tools):
    publish(("test.once", "ask"))
    approver = user("grace", groups=("approvers",))
    for n in range(8):
        job = submit(step("a", "test.once", text=str(n)))
        run_queued(job)
        request = ApprovalRequest.objects.get(parent_id=str(job.pk))
        raised = side_by_side(
            partial(approve, request, approver),
            lambda: expire_due(timezone.now() + timedelta(days=8)),
        )
        assert all(isinstance(error, DecisionError) for error in raised), raised
        request.refresh_from_db()
        if request.state == "pending":  # the expiry left it to a person whose vote came too late
            expire_due(timezone.now() + timedelta(days=8))
            request.refresh_from_db()
        assert only(job).state == {"approved": StepState.QUEUED, "expired": StepState.REFUSED}[request.state]


# limits of a job


def goal(**limits: int) -> Job:
    owner = user("ada")
    new = NewJob(owner=owner, kind="goal", goal="look", agent=agent(**limits))
    return create_job(new, now=timezone.now(), actor=Actor.user(owner.pk))


def answer(job: Job, *, calls: int, tokens: int = 10) -> None:
    """The model's next turn asks for `calls` reads."""
    one = Step.objects.get(job=job, tool="llm.think", state=StepState.QUEUED)
    claim = begin(one)
    wishes = [{"id": f"c{n}", "name": "test.read", "arguments": {}, "reason": ""} for n in range(calls)]
    usage = {"prompt_tokens": tokens, "completion_tokens": 0}
    result = Result(ok=True, summary="", data={"content": "", "tool_calls": wishes, "finish": None, "usage": usage})
    settle.settle(claim.step, result, worker="w", cancelled=False, now=timezone.now())
    for read in Step.objects.filter(job=job, tool="test.read", state=StepState.QUEUED):
        execute(read.pk, read.attempt, HERE)
    job.refresh_from_db()


def test_a_job_ends_at_its_limit_of_steps_and_says_so():
    publish(("*", "allow"))
    job = goal(max_steps=6, max_tokens=1000)
    answer(job, calls=3)
    assert (job.state, Step.objects.filter(job=job).count()) == (JobState.RUNNING, 5)
    answer(job, calls=1)
    assert job.state == JobState.FAILED
    assert "limit of 6 steps" in job.outcome
    assert Step.objects.filter(job=job).count() == 5


def test_a_job_ends_at_its_limit_of_tokens_and_says_so():
    publish(("*", "allow"))
    job = goal(max_steps=60, max_tokens=1000)
    answer(job, calls=1, tokens=600)
    assert job.state == JobState.RUNNING
    answer(job, calls=1, tokens=600)
    assert (job.state, job.tokens_used) == (JobState.FAILED, 1200)
    assert "limit of 1000 tokens" in job.outcome
