"""A job whose calls people deny again and again is paused, in the transaction of the denial."""

from functools import partial
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from agents.engine.control.pause import pause_alone, pause_job
from agents.errors import AlreadyDone, NotNow
from agents.models import Job
from approvals import fatigue
from approvals.models import ApprovalRequest
from audit.actor import Actor

FATIGUE = Actor.system("fatigue")


def decided(request: ApprovalRequest) -> None:
    """A callback of `approvals.hooks.on_decided`, after the one that settles the step and locks the job."""
    why = fatigue.pause_due(request) if request.subject_type == "step" else ""
    if not why:
        return
    now = request.decided_at or timezone.now()
    try:
        job = pause_alone(UUID(request.parent_id), by=FATIGUE, now=now, why=why)
    except (Job.DoesNotExist, AlreadyDone, NotNow):  # it goes no further by itself
        return
    # its parts after the commit: they lock themselves before this job, never the other way round
    transaction.on_commit(partial(_parts, job.pk))


def _parts(job_id: UUID) -> None:
    try:
        pause_job(job_id, by=FATIGUE, now=timezone.now())
    except (AlreadyDone, NotNow):
        return
