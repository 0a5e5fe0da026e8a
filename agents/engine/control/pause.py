"""Pausing a job: what runs goes on to its end, nothing else begins. So does one that undoes what it did.

A step that stood in a queue goes back to `pending`, so that no claim can win it and no message about it counts; what
was permitted for it is withdrawn. `agents.engine.advance` releases nothing of a paused job. What people approve
meanwhile keeps its approval and waits too.
"""

from contextlib import suppress
from datetime import datetime
from uuid import UUID

from django.db import transaction

from agents.engine import saga
from agents.engine.advance import advance
from agents.engine.transitions import lock_job, move_job, move_step
from agents.errors import AlreadyDone, NotNow
from agents.models import Job, Step
from agents.states import JOB_DONE, JobState, StepState
from audit.actor import Actor
from audit.kinds import Event
from tools import permits


def pause_job(job_id: UUID, *, by: Actor, now: datetime) -> Job:
    """Pauses the job and the jobs that it has started. Pausing twice changes nothing.

    Raises:
        Job.DoesNotExist
        AlreadyDone: it has ended.
        NotNow: it is being cancelled.
    """
    job = pause_alone(job_id, by=by, now=now)
    for child_id in _children(job):
        with suppress(AlreadyDone, NotNow):  # it ends by itself
            pause_job(child_id, by=by, now=now)
    return job


def resume_job(job_id: UUID, *, by: Actor, now: datetime) -> Job:
    """Lets a paused job, and the jobs that it has started, go on from where they stood. Twice changes nothing.

    Raises:
        Job.DoesNotExist
        AlreadyDone: it has ended.
    """
    job = _resume(job_id, by=by, now=now)
    for child_id in _children(job):
        with suppress(AlreadyDone):
            resume_job(child_id, by=by, now=now)
    return job


@transaction.atomic
def pause_alone(job_id: UUID, *, by: Actor, now: datetime, why: str = "") -> Job:
    """As `pause_job`, without the jobs that it has started. why: told on its page, where no person did it."""
    job = lock_job(job_id)
    if job.state in JOB_DONE:
        raise AlreadyDone(f"The job has {job.state} already.")
    if job.state == JobState.PAUSED:
        return job
    if job.cancel_requested and not saga.undoing(job):
        raise NotNow("The job is being cancelled.")
    told = {"context": {"why": why}} if why else {}
    move_job(job, JobState.PAUSED, now=now, event=Event.JOB_PAUSED, actor=by, paused_because=why[:300], **told)
    # locked one by one in the order of ids, as the leases are renewed; one that was claimed meanwhile drops out
    waiting = Step.objects.select_for_update(of=("self",)).filter(
        job=job, state__in=[StepState.READY, StepState.QUEUED]
    )
    for step in waiting.order_by("pk"):
        if step.permit_id is not None:
            permits.withdraw(step.permit_id)
        move_step(step, StepState.PENDING, now=now, permit_id=None, dispatched_at=None)
    return job


@transaction.atomic
def _resume(job_id: UUID, *, by: Actor, now: datetime) -> Job:
    job = lock_job(job_id)
    if job.state in JOB_DONE:
        raise AlreadyDone(f"The job has {job.state} already.")
    if job.state != JobState.PAUSED:
        return job
    if saga.undoing(job):
        goes_on = JobState.COMPENSATING
    else:
        goes_on = JobState.RUNNING if job.started_at is not None else JobState.QUEUED
    move_job(job, goes_on, now=now, event=Event.JOB_RESUMED, actor=by)
    advance(job, now=now)
    return job


def _children(job: Job) -> list[UUID]:
    return list(Job.objects.filter(parent=job).exclude(state__in=JOB_DONE).values_list("pk", flat=True))
