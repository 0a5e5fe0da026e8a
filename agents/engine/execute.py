"""A worker's part: claim in one transaction, act in none, settle in another."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from agents import feed
from agents.engine import recheck, stale
from agents.engine.acting import act, settle_patiently
from agents.engine.gate import call_of
from agents.engine.hot import work
from agents.engine.hot.values import Delivery
from agents.engine.leases import leases
from agents.engine.limits import allows
from agents.engine.prepare import prepare
from agents.engine.transitions import lock_job_of, move_job, step_entry, step_facts, step_target
from agents.models import Attempt, Job, Step
from agents.states import JobState, StepState
from audit.actor import Actor
from audit.append import record
from audit.context import bind
from audit.kinds import Event
from tools.spec import Call

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    step: Step
    call: Call


def execute(step_id: UUID, fence: int, delivery: Delivery, *, may_follow: Callable[[], bool] = lambda: False) -> None:
    """Handles one message `(step id, attempt)`. A duplicate or stale one loses the claim and returns.

    may_follow: may this thread go on with the job's next step, where that is plain?
    """
    if work.run(step_id, fence, delivery, may_follow=may_follow):
        return
    connection.close_if_unusable_or_obsolete()
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
        _through(claim, delivery, since=since)


@transaction.atomic
def claim_step(step_id: UUID, fence: int, delivery: Delivery, *, now: datetime) -> Claim | None:
    """Takes the step, with the record of the intent, before anything runs. None: somebody else has it."""
    approval = recheck.hold(step_id)  # before the job, as everywhere
    try:
        job = lock_job_of(step_id)
    except Job.DoesNotExist:
        return None
    due = Step.objects.filter(pk=step_id, state=StepState.QUEUED, attempt=fence, cancel_requested=False).first()
    if due is None or (due.not_before is not None and due.not_before > now):
        return None
    if not (recheck.stands(job, due, approval, now=now) and stale.stands(job, due, now=now)):
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
    recheck.begun(approval)
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
    if job.state != JobState.COMPENSATING:
        move_job(job, JobState.RUNNING, now=now)
    return Claim(step=step, call=call)


def _through(claim: Claim, delivery: Delivery, *, since: float) -> None:
    """Runs the call outside any transaction and settles what came of it."""
    step = claim.step
    assert step.permit_id is not None
    sink = feed.LogSink(step.job_id, step.pk, step.attempt)
    with leases.hold(step.pk, step.attempt, since=since) as held:
        outcome = act(
            claim.call,
            step.permit_id,
            attempt=step.attempt,
            held=held,
            sink=sink,
            delivery=delivery,
            timeout_s=step.timeout_s,
        )
        settle_patiently(step, outcome, held, delivery)
