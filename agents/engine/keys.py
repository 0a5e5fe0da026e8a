"""Concurrency keys: of a tenant's jobs that share a key one runs, the others wait in the order of their submission.

`Job.holds_key` says who runs; the unique index `job_concurrency_key` allows one. Whoever ends gives the key up with its
last move (`transitions.move_job`), whatever that is; a releaser passes it on, or the sweeper.
"""

import logging
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import QuerySet

from agents.engine.advance import advance
from agents.engine.cancel import cancel_job
from agents.engine.transitions import job_target
from agents.errors import KeyBusy
from agents.models import Job
from agents.selectors import may_change
from agents.states import JOB_DONE, JobState
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event

log = logging.getLogger(__name__)

BATCH = 200
QUEUE, REJECT, CANCEL_RUNNING = "queue", "reject", "cancel_running"
ENGINE = Actor.system("engine")


def enter(job: Job, *, reject: bool) -> None:
    """A new job, in the transaction that writes it: takes its key, or waits for it.

    Raises:
        KeyBusy: another job has the key or waits for it, and the submitter wants no waiting.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [_lock(job)])
    others = unfinished(job)
    if not others.exists():
        _take(job)
    elif reject:
        first = others.order_by("-holds_key", "created_at", "pk").first()
        raise KeyBusy(f"Job {first.pk if first else ''} has the key {job.concurrency_key!r}.", field="concurrency_key")


def own_key(key: str, parent: Job | None) -> str:
    """A job does not wait for a key that its own parents hold: they wait for it."""
    while key and parent is not None:
        if parent.concurrency_key == key:
            return ""
        parent = parent.parent
    return key


def cancel_previous(job: Job, *, by: User, now: datetime) -> int:
    """Cancels the jobs before it that have its key or wait for it, as far as `by` may; it waits for the others."""
    others = [one for one in unfinished(job).filter(created_at__lte=job.created_at) if may_change(by, one)]
    for one in others:
        cancel_job(one.pk, by=Actor.user(by.pk), now=now)
    return len(others)


def unfinished(job: Job) -> QuerySet[Job]:
    """The other jobs of its tenant and key that have not ended."""
    same = Job.objects.filter(tenant=job.tenant_id, concurrency_key=job.concurrency_key)
    return same.exclude(state__in=JOB_DONE).exclude(pk=job.pk)


def holder(job: Job) -> Job | None:
    """For whom the job waits: who has its key. None: it waits for nobody."""
    if not job.concurrency_key or job.holds_key or job.done:
        return None
    return unfinished(job).filter(holds_key=True).first()


def pass_on_all(now: datetime) -> int:
    """Gives each key that nobody holds to the first that waits for it, and lets it begin. How many."""
    waiting = (
        Job.objects.filter(holds_key=False)
        .exclude(concurrency_key="")
        .exclude(state__in=[*JOB_DONE, JobState.PAUSED])
        .order_by("tenant_id", "concurrency_key", "created_at", "pk")
        .distinct("tenant_id", "concurrency_key")
    )
    held = set(
        Job.objects.filter(holds_key=True).exclude(state__in=JOB_DONE).values_list("tenant_id", "concurrency_key")
    )
    free = [job.pk for job in waiting.iterator() if (job.tenant_id, job.concurrency_key) not in held]
    return sum(_pass_on(pk, now=now) for pk in free[:BATCH])


@transaction.atomic
def _pass_on(job_id: UUID, *, now: datetime) -> bool:
    """Waits for no lock that another may hold for long: who has it now passes the key on, or the next look does."""
    job = (
        Job.objects.select_for_update(of=("self",), skip_locked=True)
        .select_related("agent", "repository", "owner")
        .filter(pk=job_id, holds_key=False)
        .exclude(state__in=[*JOB_DONE, JobState.PAUSED])
        .first()
    )
    if job is None:
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext(%s))", [_lock(job)])
        if not cursor.fetchone()[0]:
            return False
    if unfinished(job).filter(holds_key=True).exists():
        return False
    _take(job)
    record(Event.JOB_KEY_TAKEN, actor=ENGINE, target=job_target(job), context={"key": job.concurrency_key})
    log.info("job.key_taken", extra={"job": str(job.pk)})
    advance(job, now=now)
    return True


def _take(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(holds_key=True)
    job.holds_key = True


def _lock(job: Job) -> str:
    return f"agents.key:{job.tenant_id}:{job.concurrency_key}"
