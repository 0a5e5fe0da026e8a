"""Steps that take their workers with them are set aside, and two sweepers never act at once."""

import os
import signal
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from agents import feed
from agents.engine import answers, quarantine, recover
from agents.engine.duty import Duty, DutyLost
from agents.engine.execute import claim_step, execute
from agents.models import Attempt, Handling, Job, Step, WorkerProcess
from agents.models import Duty as DutyRow
from agents.states import JobState, StepState
from agents.workers import Registration
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.models import Record
from tests.factories.policies import publish
from tests.integration.agents.test_engine import HERE, begin, run_queued, states, step, submit
from tests.integration.agents.worker import sweeper
from tests.stack import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

MINUTE = timedelta(seconds=60)


def only(job: Job) -> Step:
    return Step.objects.get(job=job)


def die_in(one: Step, what: str, *, worker: str = "shell@a") -> None:
    """What is left when a worker is killed in a preview or probe, seen by the process that follows it."""
    one.refresh_from_db()
    Handling.objects.create(
        step=one, attempt=one.attempt, what=what, worker=worker, pid=os.getpid(), began_at=timezone.now()
    )
    Registration(name=worker).beat()


def test_a_step_that_loses_three_workers_is_quarantined_with_its_evidence():
    publish(("test.*", "allow"))
    job = submit(step("a"), step("b", "test.note", "a"))
    one = Step.objects.get(job=job, key="a")
    Step.objects.filter(pk=one.pk).update(max_attempts=99)
    output = feed.Entry(kind="log", data={"text": "eats it\n"}, step_id=one.pk)
    for attempt in range(3):
        assert claim_step(one.pk, attempt, HERE, now=timezone.now()) is not None
        with transaction.atomic():
            feed.append(job.pk, [output], now=timezone.now())
        recover.expire_leases(timezone.now() + MINUTE)
    one.refresh_from_db()
    assert (one.state, one.error_code, one.error_class, one.losses) == ("failed", "quarantined", "bug", 3)
    assert one.result is not None
    evidence = one.result["data"]["evidence"]
    assert [found["worker"] for found in evidence["lost"]] == [HERE.worker] * 3
    assert "eats it" in evidence["output"] and "eats it" in one.error
    assert states(job)["b"] == "skipped"
    record = Record.objects.filter(event="step.failed", target_id=str(one.pk)).get()
    assert record.outcome == "quarantined"


def test_a_worker_that_gives_a_step_back_itself_does_not_count(settings):
    settings.POISON_LOSSES = 1
    publish(("test.*", "allow"))
    job = submit(step("a"))
    claim = begin(only(job))
    recover.settle.settle(claim.step, recover.settle.Lost("its lease"), worker="w", cancelled=False, now=timezone.now())
    assert (only(job).state, only(job).losses) == (StepState.QUEUED, 0)


def test_a_once_step_in_doubt_is_never_called_failed_before_somebody_knows(settings):
    settings.POISON_LOSSES = 1
    publish(("test.*", "allow"))
    job = submit(step("a", "test.once"))
    begin(only(job))
    recover.expire_leases(timezone.now() + MINUTE)
    assert only(job).state == StepState.IN_DOUBT
    answers.probe(only(job).pk, 1, worker=HERE.worker)  # it did not happen
    assert (only(job).state, only(job).error_code) == (StepState.FAILED, "quarantined")


def test_a_preview_that_kills_its_workers_is_bounded(test_tools):
    publish(("test.*", "ask"))
    job = submit(step("a", "test.once"))
    for losses in (1, 2):
        die_in(only(job), "preview")
        one = only(job)
        assert (one.state, one.losses, one.dispatched_at) == (StepState.READY, losses, None)
    die_in(only(job), "preview")
    job.refresh_from_db()
    assert (only(job).state, only(job).error_code, job.state) == ("failed", "quarantined", JobState.FAILED)
    assert not ApprovalRequest.objects.exists()


def test_a_probe_that_kills_its_workers_ends_with_people(test_tools):
    publish(("test.*", "allow"))
    job = submit(step("a", "test.once"))
    begin(only(job))
    recover.expire_leases(timezone.now() + MINUTE)
    for _ in range(2):
        die_in(only(job), "probe")
    one = only(job)
    assert (one.state, one.error_code, one.losses) == (StepState.IN_DOUBT, "needs_person", 3)
    assert recover.republish(timezone.now() + timedelta(days=1)) == 0
    answers.by_person(one.pk, happened=True, by=Actor.user(1), now=timezone.now())
    assert only(job).state == StepState.SUCCEEDED


def test_previews_and_probes_that_end_leave_nothing(test_tools):
    publish(("test.*", "ask"))
    job = submit(step("a", "test.once"))
    test_tools.STATE["preview"] = "crash"
    execute(only(job).pk, 0, HERE)
    assert only(job).state == StepState.FAILED
    test_tools.STATE.clear()
    other = submit(step("a", "test.once"))
    run_queued(other)
    assert only(other).state == StepState.WAITING_APPROVAL
    assert not Handling.objects.exists()


def test_a_preview_whose_worker_fell_silent_is_sent_again():
    publish(("test.*", "ask"))
    job = submit(step("a", "test.once"))
    now = timezone.now()
    old = now - timedelta(minutes=5)
    for name, seen in (("gone@a", old), ("works@a", now)):
        WorkerProcess.objects.create(name=name, group="g", host="h", pid=1, version="1", started_at=old, seen_at=seen)
        Handling.objects.create(step=only(job), attempt=0, what="preview", worker=name, pid=1, began_at=old)
    assert quarantine.reap_silent(now) == 1
    assert quarantine.reap_silent(now) == 0
    assert (only(job).losses, only(job).dispatched_at) == (1, None)


# two sweepers


def test_a_duty_has_one_holder_and_its_fence_grows_with_each_change():
    one, two = Duty("d"), Duty("d")
    assert one.take() and not two.take() and one.take()
    DutyRow.objects.update(until=timezone.now() - MINUTE)  # it was stopped
    assert two.take()
    with pytest.raises(DutyLost):
        one.keep()
    two.leave()
    assert one.take()
    assert DutyRow.objects.get().fence == 3


def test_a_sweeper_that_slept_through_anothers_turn_stops_even_where_the_duty_is_free_again():
    one, two = Duty("d"), Duty("d")
    assert one.take()
    DutyRow.objects.update(until=timezone.now() - MINUTE)
    assert two.take()
    two.leave()
    done = []
    with pytest.raises(DutyLost):
        recover.sweep(timezone.now(), guard=lambda: (one.keep(), done.append(1)))
    assert done == []


def test_a_second_sweeper_takes_over_from_a_stopped_one_which_then_acts_no_more():
    publish(("test.*", "allow"))

    def recovered(one: Step) -> bool:
        return not Step.objects.filter(pk=one.pk, state=StepState.RUNNING).exists()

    with sweeper() as first:
        wait_until(lambda: DutyRow.objects.filter(holder__contains=f":{first.pid}:").exists(), why="the first sweeps")
        first.send_signal(signal.SIGSTOP)
        with sweeper() as second:
            wait_until(
                lambda: DutyRow.objects.filter(holder__contains=f":{second.pid}:").exists(),
                timeout_s=60,
                why="the second takes over",
            )
            turn = DutyRow.objects.get().fence
            lost = [Step.objects.get(job=submit(step("a"))) for _ in range(3)]
            for one in lost:
                claim_step(one.pk, 0, HERE, now=timezone.now() - MINUTE)
            first.send_signal(signal.SIGCONT)
            wait_until(lambda: all(map(recovered, lost)), timeout_s=60, why="lost steps are found")
            duty = DutyRow.objects.get()  # where the second stood still in its turn, the first may have had another
            assert f":{second.pid}:" in duty.holder or duty.fence > turn, "the late one took nothing"
            for one in lost:
                assert Attempt.objects.filter(step=one, outcome="lost").count() == 1
                assert Record.objects.filter(event="step.requeued", target_id=str(one.pk)).count() == 1
            second.send_signal(signal.SIGTERM)
            assert second.wait(60) == 0
        wait_until(
            lambda: DutyRow.objects.filter(holder__contains=f":{first.pid}:", fence__gt=turn).exists(),
            timeout_s=60,
            why="the first takes over again",
        )
