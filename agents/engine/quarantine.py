"""Poison: steps that take their workers with them are set aside after POISON_LOSSES times, with the evidence.

A running step's loss is known by its lease. A preview or a probe has none: it leaves a row while it is under way
(`handling`), and a row whose worker is gone counts as a loss too.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from agents.engine.advance import advance
from agents.engine.doubt import NEEDS_PERSON
from agents.engine.transitions import ENGINE, lock_job_of, move_step
from agents.models import Attempt, FeedEntry, Handling, Job, Step, WorkerProcess
from agents.states import StepState
from audit.actor import Actor
from audit.kinds import Event

log = logging.getLogger(__name__)

CODE = "quarantined"
OUTPUT_MAX = 2000
SILENT_LEAST_S = 15


@contextmanager
def handling(step: Step, what: str, *, worker: str) -> Iterator[None]:
    """Leaves a row while the block runs. An exception ends it in order; a death leaves it behind."""
    mine = Handling.objects.create(
        step_id=step.pk, attempt=step.attempt, what=what, worker=worker, pid=os.getpid(), began_at=timezone.now()
    )
    try:
        yield
    finally:
        Handling.objects.filter(pk=mine.pk, lost_at__isnull=True).delete()


def count_loss(step: Step) -> None:
    """One more worker was lost with this step. The caller holds the job's lock."""
    Step.objects.filter(pk=step.pk).update(losses=F("losses") + 1)
    step.losses += 1


def due(step: Step) -> bool:
    """It took so many workers with it that it must not run again."""
    return step.losses >= settings.POISON_LOSSES


def set_aside(step: Step, *, actor: Actor, now: datetime) -> None:
    """Fails the step with what is known about its losses. The caller holds the job's lock and advances it."""
    found = evidence(step)
    workers = ", ".join(sorted({one["worker"] for one in found["lost"]}))
    error = f"It was quarantined: {step.losses} workers were lost with it ({workers})."
    if found["output"]:
        error += f" Its last output: {found['output'][-500:]}"
    log.error("step.quarantined", extra={"job": str(step.job_id), "step": str(step.pk), "losses": step.losses})
    move_step(
        step,
        StepState.FAILED,
        now=now,
        event=Event.STEP_FAILED,
        actor=actor,
        outcome=CODE,
        context={"code": CODE, "losses": step.losses},
        payload={"error": error, "evidence": found},
        error_code=CODE,
        error_class="resource" if found["short_of_memory"] else "bug",
        error=error[:4000],
        result={
            "ok": False,
            "summary": error[:300],
            "data": {"evidence": found},
            "text": found["output"],
            "exit_code": None,
            "truncated_bytes": 0,
            "sandbox": {},
        },
    )


def evidence(step: Step) -> dict[str, Any]:
    """Which attempts, previews and probes were lost, on which workers, and what the step printed last."""
    lost: list[dict[str, Any]] = [
        {"what": "attempt", "attempt": one.number, "worker": one.worker, "began_at": one.claimed_at.isoformat()}
        for one in Attempt.objects.filter(step=step, outcome="lost").order_by("number")
    ]
    lost += [
        {"what": one.what, "attempt": one.attempt, "worker": one.worker, "began_at": one.began_at.isoformat()}
        for one in Handling.objects.filter(step=step, lost_at__isnull=False)
    ]
    entries = FeedEntry.objects.filter(step_id=step.pk, kind="log").order_by("-seq")[:20]
    output = "".join(str(entry.data.get("text", "")) for entry in reversed(entries))[-OUTPUT_MAX:]
    names = [one["worker"] for one in lost]
    rss = max(WorkerProcess.objects.filter(name__in=names).values_list("rss_bytes", flat=True), default=0)
    return {"lost": lost, "output": output, "rss_bytes": rss, "short_of_memory": rss > _memory_bytes() / 2}


def reap(worker: str, *, before: datetime) -> int:
    """The previews and probes that `worker` began before that moment died with it; how many."""
    found = 0
    left = Handling.objects.filter(worker=worker, began_at__lt=before, lost_at__isnull=True)
    for pk, step_id in left.values_list("pk", "step_id"):
        found += _lost(pk, step_id, now=timezone.now())
    return found


def reap_silent(now: datetime) -> int:
    """The same for workers that gave no sign of life for a lease, or whose row is gone."""
    limit = now - timedelta(seconds=max(settings.STEP_LEASE_S, SILENT_LEAST_S))
    old = Handling.objects.filter(lost_at__isnull=True, began_at__lt=limit)
    if not old.exists():
        return 0
    names = set(old.values_list("worker", flat=True))
    alive = set(
        WorkerProcess.objects.filter(name__in=names, seen_at__gte=limit, stopped_at__isnull=True).values_list(
            "name", flat=True
        )
    )
    return sum(reap(name, before=limit) for name in sorted(names - alive))


@transaction.atomic
def _lost(handling_id: UUID, step_id: UUID, *, now: datetime) -> bool:
    try:
        job = lock_job_of(step_id)
    except Job.DoesNotExist:
        return False
    mine = Handling.objects.filter(pk=handling_id, lost_at__isnull=True)
    one = mine.first()
    if one is None or not mine.update(lost_at=now):
        return False
    step = Step.objects.filter(pk=step_id, attempt=one.attempt, state__in=[StepState.READY, StepState.IN_DOUBT]).first()
    if step is None:
        return True
    extra = {"job": str(job.pk), "step": str(step.pk), "what": one.what, "worker": one.worker}
    log.warning("step.handling_lost", extra=extra)
    count_loss(step)
    if not due(step):
        Step.objects.filter(pk=step.pk).update(dispatched_at=None)
    elif step.state == StepState.READY:
        set_aside(step, actor=ENGINE, now=now)
        advance(job, now=now)
    else:
        _ask_person(step, one)
    return True


def _ask_person(step: Step, last: Handling) -> None:
    """Whether a step in doubt happened is still unknown, so it cannot be called failed: people look at it."""
    why = f"{step.error} Its probe was lost with its worker ({last.worker}); {step.losses} workers were lost with this step."
    Step.objects.filter(pk=step.pk).update(error_code=NEEDS_PERSON, error=why[:4000])


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
