"""What the engine does when workers, databases and messages go: no step is lost, doubled, or stuck."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections
from django.utils import timezone

from agents import feed
from agents.engine import answers, dispatch, recover, settle
from agents.engine.cancel import cancel_job
from agents.engine.execute import claim_step, execute
from agents.engine.leases import Held, leases
from agents.engine.prepare import TRIES
from agents.errors import StepMoved
from agents.models import Attempt, Job, Step, WorkerProcess
from agents.states import JobState, StepState
from agents.workers import Registration
from approvals.decisions import decide
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.kinds import Event
from audit.models import Record
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.test_engine import HERE, begin, run_queued, states, step, submit
from tools import permits, registry, runner
from tools.errors import PermitSpent
from tools.spec import Result

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

MINUTE = timedelta(seconds=60)


def only(job: Job) -> Step:
    return Step.objects.get(job=job)


def side_by_side(*calls: Callable[[], object], timeout_s: float = 60) -> list[BaseException]:
    """Runs all at the same moment, each with a connection of its own; gives what they raised."""
    raised: list[BaseException] = []
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        try:
            gate.wait(60)
            call()
        except BaseException as error:
            raised.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout_s)
    assert not any(thread.is_alive() for thread in threads), "somebody hangs"
    return raised


def in_a_worker(one: Step, test_tools) -> threading.Thread:
    """A worker in the middle of `one`, whose arguments make it wait for GO_ON."""
    worker = threading.Thread(target=lambda: (execute(one.pk, one.attempt, HERE), connections.close_all()))
    worker.start()
    assert test_tools.STARTED.wait(60)
    return worker


def cut_every_other_connection() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return cursor.fetchone()[0]


def approve(request: ApprovalRequest, by: User) -> None:
    decide(request_id=request.pk, by=by, verdict="approve", reason="", channel="page", now=timezone.now())


# lost workers


def test_a_once_step_that_was_lost_before_its_permit_was_spent_just_runs_again(test_tools):
    publish(("test.*", "allow"))
    job = submit(step("a", "test.once", text="x"))
    claim = claim_step(only(job).pk, 0, HERE, now=timezone.now())
    assert claim is not None
    recover.expire_leases(timezone.now() + MINUTE)
    one = only(job)
    assert (one.state, one.attempt) == (StepState.QUEUED, 1)
    with pytest.raises(PermitSpent):  # its worker wakes up after all
        runner.run(
            claim.call,
            claim.step.permit_id,
            worker="zombie",
            on_output=lambda *_: None,
            cancelled=lambda: False,
            now=claim.step.started_at,
        )
    assert test_tools.RAN == []
    assert run_queued(job).state == JobState.SUCCEEDED
    assert test_tools.RAN == [("test.once", "x")]


def test_of_a_lost_worker_and_the_sweeper_one_gets_the_permit():
    publish(("test.*", "allow"))
    for n in range(5):
        job = submit(step("a", "test.once", text=str(n)))
        claim = claim_step(only(job).pk, 0, HERE, now=timezone.now())
        assert claim is not None
        permit, digest = claim.step.permit_id, claim.call.digest()
        raised = side_by_side(
            partial(permits.spend, permit, digest=digest, by="w", now=timezone.now()),
            lambda: recover.expire_leases(timezone.now() + MINUTE),
        )
        spent = not raised
        assert all(isinstance(error, PermitSpent) for error in raised)
        assert only(job).state == (StepState.IN_DOUBT if spent else StepState.QUEUED)


def test_the_clock_alone_takes_a_lease_that_nobody_could_renew(settings):
    held = Held(user("ada").pk, 1, time.monotonic() - settings.STEP_LEASE_S - 1)
    assert held.lost
    assert held.stop_requested()
    assert not Held(held.step_id, 1).stop_requested()


def test_a_step_that_was_stopped_for_its_lost_lease_runs_again_and_has_not_failed(test_tools):
    publish(("test.*", "allow"))
    job = submit(step("a", fail="stopped"))
    worker = in_a_worker(only(job), test_tools)
    next(iter(leases._held.values())).taken = True
    test_tools.GO_ON.set()
    worker.join(60)
    one = only(job)
    assert (one.state, one.attempt, one.error_code) == (StepState.QUEUED, 1, "")
    assert Attempt.objects.get(step=one).outcome == "lost"


def test_a_result_that_was_ready_when_the_lease_was_lost_counts_while_nobody_else_has_the_step(test_tools):
    publish(("test.*", "allow"))
    job = submit(step("a", fail="wait"))
    worker = in_a_worker(only(job), test_tools)
    next(iter(leases._held.values())).taken = True
    test_tools.GO_ON.set()
    worker.join(60)
    assert only(job).state == StepState.SUCCEEDED


def test_a_step_that_loses_its_worker_each_time_fails_in_the_end():
    publish(("test.*", "allow"))
    job = submit(step("a"), step("b", "test.note", "a"))
    one = Step.objects.get(job=job, key="a")
    for attempt in range(one.max_attempts):
        assert claim_step(one.pk, attempt, HERE, now=timezone.now()) is not None
        recover.expire_leases(timezone.now() + MINUTE)
    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert states(job) == {"a": "failed", "b": "skipped"}
    assert Step.objects.get(pk=one.pk).error_code == "quarantined"


# the database goes away


def test_a_step_whose_connections_are_cut_in_mid_act_keeps_its_result_and_its_output(test_tools):
    publish(("test.*", "allow"))
    job = submit(step("a", fail="wait", text="a"))
    worker = in_a_worker(only(job), test_tools)
    assert cut_every_other_connection() >= 1
    test_tools.GO_ON.set()
    worker.join(60)
    one = only(job)
    assert (one.state, one.attempt) == (StepState.SUCCEEDED, 1)
    assert [entry.data["text"] for entry in feed.entries(job.pk, after=0) if entry.kind == "note"] == ["noted"]


def test_a_settlement_whose_answer_was_lost_is_not_taken_for_a_late_result():
    publish(("test.*", "allow"))
    job = submit(step("a", text="a"))
    claim = begin(only(job))
    result = Result(ok=True, summary="done")
    for _ in range(2):
        settle.settle(claim.step, result, worker=HERE.worker, cancelled=False, now=timezone.now())
    assert Attempt.objects.get(step=claim.step).outcome == "succeeded"
    assert records(Event.STEP_LATE_RESULT, [claim.step]) == 0


def records(event: Event, steps: Iterable[Step]) -> int:
    return Record.objects.filter(event=str(event), target_id__in=[str(one.pk) for one in steps]).count()


def test_output_waits_for_a_database_that_is_away_and_ends_no_command(test_tools):
    publish(("test.*", "allow"))
    job = submit(step("a"))
    sink = feed.LogSink(job.pk, only(job).pk, 1)

    def write() -> None:
        sink("stdout", "before\n")
        sink.flush()
        other = threading.Thread(target=lambda: (cut_every_other_connection(), connections.close_all()))
        other.start()
        other.join(60)
        sink("stdout", "during\n")
        sink.flush()  # finds its connection dead
        sink("stdout", "after\n")
        sink.flush()

    assert side_by_side(write) == []
    connection.close()  # ours was cut as well
    assert [one.data["text"] for one in feed.entries(job.pk) if one.kind == "log"] == ["before\n", "during\nafter\n"]


# messages


def test_each_message_five_times_and_at_once_runs_each_step_once(test_tools):
    publish(("test.*", "allow"))
    job = submit(*[step(f"s{n}", text=str(n)) for n in range(6)])
    steps = list(Step.objects.filter(job=job))
    raised = side_by_side(*[lambda one=one: execute(one.pk, 0, HERE) for one in steps for _ in range(5)])
    assert raised == []
    assert Counter(text for _, text in test_tools.RAN) == Counter(str(n) for n in range(6))
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED


def test_what_is_not_due_takes_no_place_from_what_was_never_sent(monkeypatch, settings):
    settings.STEP_REPUBLISH_AFTER_S = 30
    publish(("test.*", "allow"))
    monkeypatch.setattr(recover, "BATCH", 2)
    job = submit(*[step(f"s{n}") for n in range(3)])
    now = timezone.now()
    old = now - timedelta(seconds=45)  # older than the first wait, younger than the second
    Step.objects.filter(job=job, key__in=["s0", "s1"]).update(dispatched_at=old, dispatches=1)
    Step.objects.filter(job=job, key="s2").update(dispatched_at=None)
    assert recover.republish(now) == 1
    assert Step.objects.get(job=job, key="s2").dispatched_at == now


def test_the_wait_for_a_lost_message_grows_and_starts_anew_with_each_attempt(settings):
    settings.STEP_REPUBLISH_AFTER_S = 30
    publish(("test.*", "allow"))
    job = submit(step("a"))
    now = timezone.now()
    for seconds in (31, 61, 121):
        now += timedelta(seconds=seconds - 5)
        assert recover.republish(now) == 0
        now += timedelta(seconds=5)
        assert recover.republish(now) == 1
    assert only(job).dispatches == 3
    claim_step(only(job).pk, 0, HERE, now=timezone.now())
    recover.expire_leases(timezone.now() + MINUTE)
    assert only(job).dispatches == 0


def test_messages_that_a_stopping_worker_hands_back_are_sent_with_the_next_sweep():
    publish(("test.*", "allow"))
    job = submit(step("a"), step("b"))
    a, b = Step.objects.filter(job=job).order_by("seq")
    assert claim_step(b.pk, 0, HERE, now=timezone.now()) is not None
    dispatch.hand_back([(a.pk, 0), (b.pk, 0)])
    assert recover.republish(timezone.now()) == 1


def test_two_sweepers_set_a_lost_step_going_once():
    publish(("test.*", "allow"))
    jobs = [submit(step("a"), step("b")) for _ in range(3)]
    for one in Step.objects.all():
        claim_step(one.pk, 0, HERE, now=timezone.now())
    later = timezone.now() + MINUTE
    assert side_by_side(*[lambda: recover.expire_leases(later)] * 4, *[lambda: recover.republish(later)] * 2) == []
    assert Attempt.objects.filter(outcome="lost").count() == 6
    assert records(Event.STEP_REQUEUED, Step.objects.all()) == 6
    assert all(run_queued(job).state == JobState.SUCCEEDED for job in jobs)


# what the engine itself cannot do


def test_a_lost_step_whose_tool_is_gone_ends_and_the_sweep_goes_on():
    publish(("test.*", "allow"))
    gone, other = submit(step("a", "test.read")), submit(step("a"))
    for job in (gone, other):
        claim_step(only(job).pk, 0, HERE, now=timezone.now())
    tool = registry.get("test.read")
    registry.unregister("test.read")
    try:
        recover.sweep(timezone.now() + MINUTE)
    finally:
        registry.register(tool)
    gone.refresh_from_db()
    assert (gone.state, only(gone).state, only(gone).error_code) == ("failed", "refused", "unknown_tool")
    assert only(other).state == StepState.QUEUED


def test_a_lost_step_that_the_engine_cannot_move_fails_and_the_sweep_goes_on(monkeypatch):
    publish(("test.*", "allow"))
    bad, other = submit(step("a", text="bad")), submit(step("a"))
    for job in (bad, other):
        claim_step(only(job).pk, 0, HERE, now=timezone.now())
    whole = settle.again

    def broken(job: Job, *arguments: object, **named: object) -> None:
        if job.pk == bad.pk:
            raise ValueError("a bug of the engine's own")
        whole(job, *arguments, **named)

    monkeypatch.setattr(settle, "again", broken)
    recover.sweep(timezone.now() + MINUTE)
    bad.refresh_from_db()
    assert (bad.state, only(bad).error_code) == (JobState.FAILED, "internal_error")
    assert only(other).state == StepState.QUEUED


def test_a_bug_in_a_preview_fails_the_step(test_tools):
    publish(("test.*", "ask"))
    job = submit(step("a", "test.once"))
    test_tools.STATE["preview"] = "crash"
    assert run_queued(job).state == JobState.FAILED
    assert only(job).error_code == "internal_error"
    assert "a bug in the preview" in only(job).error


def test_a_preview_that_may_work_later_is_tried_again_and_then_fails(test_tools):
    publish(("test.*", "ask"))
    job = submit(step("a", "test.once"))
    test_tools.STATE["preview"] = "transient"
    now = timezone.now()
    for _ in range(TRIES - 1):
        execute(only(job).pk, 0, HERE)
        one = only(job)
        assert (one.state, one.dispatched_at) == (StepState.READY, None)
        assert recover.republish(now) == 0
        assert recover.republish(now + MINUTE) == 1
    execute(only(job).pk, 0, HERE)
    assert only(job).state == StepState.FAILED


def test_a_ready_step_whose_worker_died_in_its_preview_is_sent_again(test_tools):
    publish(("test.*", "ask"))
    job = submit(step("a", "test.once"))
    assert only(job).state == StepState.READY
    assert recover.republish(timezone.now() + MINUTE) == 1
    run_queued(job)
    assert only(job).state == StepState.WAITING_APPROVAL


def test_a_bug_in_a_probe_asks_a_person(test_tools):
    publish(("test.*", "allow"))
    job = submit(step("a", "test.once"))
    begin(only(job))
    recover.expire_leases(timezone.now() + MINUTE)
    test_tools.STATE["probe"] = "crash"
    answers.probe(only(job).pk, 1, worker="test@here")
    one = only(job)
    assert (one.state, one.error_code) == (StepState.IN_DOUBT, "needs_person")
    assert recover.republish(timezone.now() + timedelta(days=1)) == 0
    answers.by_person(one.pk, happened=False, by=Actor.user(1), now=timezone.now())
    assert only(job).state == StepState.QUEUED
    with pytest.raises(StepMoved):
        answers.by_person(one.pk, happened=True, by=Actor.user(1), now=timezone.now())


# workers


def test_a_worker_that_could_not_register_at_its_start_does_so_with_a_later_beat():
    registration = Registration(name="git@here")
    registration.beat()
    row = WorkerProcess.objects.get(name="git@here")
    assert (row.pid, row.stopped_at) == (os.getpid(), None)
    row.delete()
    registration.written_at -= 60
    registration.beat()
    assert WorkerProcess.objects.filter(name="git@here").exists()


def test_leases_are_renewed_while_steps_of_the_job_are_cancelled():
    publish(("test.*", "allow"))
    job = submit(*[step(f"s{n}") for n in range(6)])
    held = []
    for one in Step.objects.filter(job=job).order_by("-seq"):
        claim_step(one.pk, 0, HERE, now=timezone.now())
        held.append(leases.hold(one.pk, 1))
    for one in held:
        one.__enter__()
    try:
        raised = side_by_side(
            *[leases.beat] * 3, lambda: cancel_job(job.pk, by=Actor.user(1), now=timezone.now()), *[leases.beat] * 3
        )
        leases.beat()
        assert raised == []
        assert [one.cancelled for one in leases._held.values()] == [True] * 6
    finally:
        for one in held:
            one.__exit__(None, None, None)
