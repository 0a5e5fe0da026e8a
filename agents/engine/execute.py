"""A worker's part: claim in one transaction, act in none, settle in another."""

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from agents import feed
from agents.engine import settle
from agents.engine.gate import call_of
from agents.engine.leases import Held, leases
from agents.engine.limits import allows
from agents.engine.prepare import prepare
from agents.engine.transitions import lock_job_of, move_job, step_entry, step_facts, step_target
from agents.models import Attempt, Job, Step
from agents.states import JobState, StepState
from audit.actor import Actor
from audit.append import record
from audit.context import bind
from audit.kinds import Event
from tools import runner
from tools.errors import ToolError
from tools.spec import Call, Result

log = logging.getLogger(__name__)

SETTLE_AGAIN_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Where a message was consumed: the queue, the worker's name, the Celery task's id."""

    queue: str
    worker: str
    task_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    step: Step
    call: Call


def execute(step_id: UUID, fence: int, delivery: Delivery) -> None:
    """Handles one message `(step id, attempt)`. A duplicate or stale one loses the claim and returns."""
    step = Step.objects.filter(pk=step_id, attempt=fence).only("state", "job_id").first()
    if step is None:
        return
    with bind(job=step.job_id, step=step_id):
        if step.state == StepState.READY:
            prepare(step_id, fence, worker=delivery.worker)
            return
        since = time.monotonic()
        claim = claim_step(step_id, fence, delivery, now=timezone.now())
        if claim is None:
            log.debug("step.not_claimed", extra={"attempt": fence})
            return
        log.info("step.claimed", extra={"attempt": claim.step.attempt, "tool": claim.step.tool})
        _act(claim, delivery, since=since)


@transaction.atomic
def claim_step(step_id: UUID, fence: int, delivery: Delivery, *, now: datetime) -> Claim | None:
    """Takes the step, with the record of the intent, before anything runs. None: somebody else has it."""
    try:
        job = lock_job_of(step_id)
    except Job.DoesNotExist:
        return None
    if not allows(step_id, fence, now=now):
        return None
    won = (
        Step.objects.filter(pk=step_id, state=StepState.QUEUED, attempt=fence, cancel_requested=False)
        .filter(Q(not_before__isnull=True) | Q(not_before__lte=now))
        .update(
            state=StepState.RUNNING,
            attempt=F("attempt") + 1,
            claimed_by=delivery.worker,
            started_at=now,
            finished_at=None,
            lease_until=now + timedelta(seconds=settings.STEP_LEASE_S),
        )
    )
    if not won:
        return None
    step = Step.objects.get(pk=step_id)
    Attempt.objects.create(
        step=step,
        number=step.attempt,
        queue=delivery.queue,
        worker=delivery.worker,
        task_id=delivery.task_id,
        claimed_at=now,
    )
    call = call_of(step)
    record(
        Event.STEP_DISPATCHED,
        actor=Actor.worker(delivery.worker),
        target=step_target(step),
        context=step_facts(step, queue=delivery.queue, permit=str(step.permit_id), digest=call.digest()),
    )
    feed.append(job.pk, [step_entry(step)], now=now)
    move_job(job, JobState.RUNNING, now=now)
    return Claim(step=step, call=call)


def _act(claim: Claim, delivery: Delivery, *, since: float) -> None:
    """Runs the call outside any transaction and settles what came of it."""
    step = claim.step
    sink = feed.LogSink(step.job_id, step.pk, step.attempt)
    with leases.hold(step.pk, step.attempt, since=since) as held:
        outcome: Result | ToolError
        try:
            assert step.permit_id is not None
            outcome = runner.run(
                claim.call,
                step.permit_id,
                worker=delivery.worker,
                on_output=sink,
                cancelled=held.stop_requested,
                now=timezone.now(),
            )
        except ToolError as error:
            outcome = error
        except settle.RETRY_ERRORS as error:
            outcome = Interrupted(f"The database was away: {type(error).__name__}.")
        except Exception as error:
            log.exception("step.crashed", extra={"attempt": step.attempt, "tool": step.tool})
            outcome = settle.Crashed(f"{type(error).__name__}: {error}")
        connection.close_if_unusable_or_obsolete()
        if held.lost:
            log.warning("step.lease_lost", extra={"attempt": step.attempt})
            if not isinstance(outcome, Result) or not outcome.ok:
                # stopped by ourselves, which says nothing about the step
                outcome = settle.Lost(f"The worker {delivery.worker} lost its lease in attempt {step.attempt}.")
        sink.flush()
        _settle(step, outcome, held, delivery)


def _settle(step: Step, outcome: Result | ToolError, held: Held, delivery: Delivery) -> None:
    """Writes the end down, and tries again while the database is away and the lease lasts.

    Raises:
        OperationalError, InterfaceError: it did not come back in time. The sweeper takes the step over.
    """
    while True:
        try:
            settle.settle(step, outcome, worker=delivery.worker, cancelled=held.cancelled, now=timezone.now())
            return
        except settle.RETRY_ERRORS as error:
            connection.close()
            extra = {"attempt": step.attempt, "error": type(error).__name__}
            if held.lost:
                log.error("step.settle_failed", extra=extra)
                raise
            log.warning("step.settle_again", extra=extra)
            time.sleep(SETTLE_AGAIN_S)


class Interrupted(ToolError):
    """The database went away under a tool, or before its permit was spent."""

    code = "database_unavailable"
    transient = True
