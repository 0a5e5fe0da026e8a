"""Wall clocks of jobs: what is over its limit is ended, what was told to begin later begins."""

import logging
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef

from agents.engine.advance import advance
from agents.engine.cancel import end_early
from agents.engine.ending import OVERDUE_WORDS
from agents.engine.transitions import ENGINE, lock_job
from agents.models import Job, Step
from agents.states import JOB_DONE, JobState, StepState
from audit.kinds import Event

log = logging.getLogger(__name__)

BATCH = 100


def end_overdue(now: datetime) -> int:
    """Ends the jobs that are over their wall-clock limit: what runs is stopped, the job fails (and undoes what it did).
    How many it found."""
    undoes = Step.objects.filter(job=OuterRef("pk"), compensates__isnull=False)
    over = Job.objects.filter(deadline_at__lte=now, cancel_requested=False).exclude(
        state__in=[*JOB_DONE, JobState.COMPENSATING]
    )
    over = over.exclude(Exists(undoes), state=JobState.PAUSED)
    found = list(over.order_by("deadline_at").values_list("pk", "deadline_at")[:BATCH])
    for job_id, deadline_at in found:
        log.warning("job.overdue", extra={"job": str(job_id)})
        end_early(
            job_id,
            by=ENGINE,
            now=now,
            event=Event.JOB_OVERDUE,
            code="deadline",
            outcome=f"{OVERDUE_WORDS}: it had to end by {deadline_at:%Y-%m-%d %H:%M:%S} UTC.",
        )
    return len(found)


def begin_due(now: datetime) -> int:
    """Lets the jobs begin whose time has come. How many."""
    begun = Step.objects.filter(job=OuterRef("pk")).exclude(state=StepState.PENDING)
    due = Job.objects.filter(~Exists(begun), state=JobState.QUEUED, starts_at__lte=now, cancel_requested=False)
    found = list(due.order_by("starts_at").values_list("pk", flat=True)[:BATCH])
    for job_id in found:
        _begin(job_id, now=now)
    return len(found)


@transaction.atomic
def _begin(job_id: UUID, *, now: datetime) -> None:
    job = lock_job(job_id)
    if job.state != JobState.QUEUED or job.starts_at is None or job.starts_at > now:
        return
    advance(job, now=now)
