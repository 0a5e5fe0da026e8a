"""Ending a job early."""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from agents.engine import saga
from agents.engine.advance import advance
from agents.engine.transitions import job_target, lock_job, move_job, move_step
from agents.errors import NotNow
from agents.models import Job, Step
from agents.states import JOB_DONE, STEP_OPEN, JobState, StepState
from approvals import requests
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event


def cancel_job(job_id: UUID, *, by: Actor, now: datetime) -> Job:
    """Cancels what has not started, asks what runs to stop (within two seconds), closes open approvals.

    A finished job stays as it is, and so does one that undoes what it did (see `stop_undoing`). Where it has something to undo, a person says
    first what became of steps in doubt. Raises Job.DoesNotExist.
    """
    return end_early(job_id, by=by, now=now)


def stop_undoing(job_id: UUID, *, by: Actor, now: datetime) -> Job:
    """Ends the undoing of a job: what undoes and runs is asked to stop (within two seconds), what has not begun never
    does. The job fails, and its outcome says what was undone and what was not.

    Raises:
        Job.DoesNotExist
        NotNow: it undoes nothing.
    """
    while True:
        try:
            return _stop_undoing(job_id, by=by, now=now)
        except _AskedMeanwhile:
            continue


def end_early(
    job_id: UUID,
    *,
    by: Actor,
    now: datetime,
    event: Event = Event.JOB_CANCELLED,
    code: str = "cancelled",
    outcome: str = "",
) -> Job:
    """As `cancel_job`, for whatever reason: `event` goes to the log, `code` to the steps, `outcome` to the job."""
    while True:
        try:
            return _cancel(job_id, by=by, now=now, event=event, code=code, outcome=outcome)
        except _AskedMeanwhile:
            continue


class _AskedMeanwhile(Exception):
    """A request was opened while the job's lock was waited for."""


@transaction.atomic
def _cancel(job_id: UUID, *, by: Actor, now: datetime, event: Event, code: str, outcome: str) -> Job:
    # Lock order: requests first, since a decision locks its request and then the job.
    pending = ApprovalRequest.objects.filter(parent_id=str(job_id), state=ApprovalRequest.State.PENDING)
    locked = {request.pk for request in pending.select_for_update(of=("self",)).order_by("pk")}
    job = lock_job(job_id)
    if job.state in JOB_DONE or job.cancel_requested or saga.undoing(job):
        return job
    if set(pending.values_list("pk", flat=True)) - locked:
        raise _AskedMeanwhile
    job.cancel_requested, job.outcome = True, outcome or job.outcome
    Job.objects.filter(pk=job.pk).update(cancel_requested=True, outcome=job.outcome)
    record(event, actor=by, target=job_target(job), outcome="requested")
    undoes = saga.wanted(job)
    for step in Step.objects.filter(job=job, state__in=STEP_OPEN).order_by("pk"):
        if step.state == StepState.RUNNING:
            Step.objects.filter(pk=step.pk).update(cancel_requested=True)
            continue
        doubtful = step.state == StepState.IN_DOUBT
        if doubtful and undoes:
            continue
        requests.cancel(subject_id=str(step.pk), now=now, actor=by)
        move_step(
            step,
            StepState.CANCELLED,
            now=now,
            event=Event.STEP_CANCELLED,
            actor=by,
            outcome="in_doubt" if doubtful else "cancelled",
            error_code=code,
            error="Cancelled in doubt; it may have happened." if doubtful else "Cancelled before it ran.",
        )
    advance(job, now=now)
    return job


@transaction.atomic
def _stop_undoing(job_id: UUID, *, by: Actor, now: datetime) -> Job:
    pending = ApprovalRequest.objects.filter(parent_id=str(job_id), state=ApprovalRequest.State.PENDING)
    locked = {request.pk for request in pending.select_for_update(of=("self",)).order_by("pk")}
    job = lock_job(job_id)
    if not saga.undoing(job):
        raise NotNow("The job undoes nothing.")
    if set(pending.values_list("pk", flat=True)) - locked:
        raise _AskedMeanwhile
    record(Event.JOB_CANCELLED, actor=by, target=job_target(job), outcome="stop_undoing")
    steps = Step.objects.filter(job=job, compensates__isnull=False, state__in=STEP_OPEN).order_by("pk")
    for step in steps:
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
            error="Stopped in doubt; it may have happened." if doubtful else "Stopped before it ran.",
            cancel_requested=True,
        )
    if job.state == JobState.PAUSED:  # what was paused ends here
        move_job(job, JobState.COMPENSATING, now=now)
    advance(job, now=now)
    return job
