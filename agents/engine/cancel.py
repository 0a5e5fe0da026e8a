"""Ending a job early."""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from agents.engine.advance import advance
from agents.engine.transitions import job_target, lock_job, move_step
from agents.models import Job, Step
from agents.states import JOB_DONE, STEP_OPEN, StepState
from approvals import requests
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event


def cancel_job(job_id: UUID, *, by: Actor, now: datetime) -> Job:
    """Cancels what has not started, asks what runs to stop (within two seconds), closes open approvals.

    A finished job stays as it is. Raises Job.DoesNotExist.
    """
    while True:
        try:
            return _cancel(job_id, by=by, now=now)
        except _AskedMeanwhile:
            continue


class _AskedMeanwhile(Exception):
    """A request was opened while the job's lock was waited for."""


@transaction.atomic
def _cancel(job_id: UUID, *, by: Actor, now: datetime) -> Job:
    # Lock order: requests first, since a decision locks its request and then the job.
    pending = ApprovalRequest.objects.filter(parent_id=str(job_id), state=ApprovalRequest.State.PENDING)
    locked = {request.pk for request in pending.select_for_update(of=("self",)).order_by("pk")}
    job = lock_job(job_id)
    if job.state in JOB_DONE or job.cancel_requested:
        return job
    if set(pending.values_list("pk", flat=True)) - locked:
        raise _AskedMeanwhile
    Job.objects.filter(pk=job.pk).update(cancel_requested=True)
    job.cancel_requested = True
    record(Event.JOB_CANCELLED, actor=by, target=job_target(job), outcome="requested")
    for step in Step.objects.filter(job=job, state__in=STEP_OPEN).order_by("pk"):
        if step.state == StepState.RUNNING:
            Step.objects.filter(pk=step.pk).update(cancel_requested=True)
            continue
        doubtful = step.state == StepState.IN_DOUBT
        requests.cancel(subject_id=str(step.pk), now=now, actor=by)
        move_step(
            step,
            StepState.CANCELLED,
            now=now,
            event=Event.STEP_CANCELLED,
            actor=by,
            outcome="in_doubt" if doubtful else "cancelled",
            error_code="cancelled",
            error="Cancelled in doubt; it may have happened." if doubtful else "Cancelled before it ran.",
        )
    advance(job, now=now)
    return job
