"""The sweeper: finds what was lost and sets it going again. Independent of beat and of every queue."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from redis.exceptions import RedisError

from agents.engine import asked, children, deadlines, doubt, epoch, keys, limits, reconsider, release, settle, watchdog
from agents.engine.advance import advance
from agents.engine.transitions import ENGINE, lock_job
from agents.evaluation import running as evaluations
from agents.memory import keeping
from agents.models import Step
from agents.states import STEP_SENT, StepState
from agents.triggers import sweep as triggers
from approvals import expiry, notify, reminders
from approvals.policy import backtest, shadow

log = logging.getLogger(__name__)

BATCH = 200
DOUBLINGS = 8  # of the time after which a message counts as lost


def sweep(now: datetime, *, guard: Callable[[], None] = lambda: None) -> dict[str, int]:
    """One pass; how many of each it found. A part that fails is logged and does not stop the others.

    guard: called before each part; raises where this sweeper must stop.

    Raises:
        OperationalError, InterfaceError: the database is away.
    """
    parts: list[tuple[str, Callable[[datetime], int]]] = [
        ("expired_leases", expire_leases),
        ("epoch", forget_dispatches_if_the_broker_is_new),
        ("overdue", deadlines.end_overdue),
        ("begun", deadlines.begin_due),
        ("keys", keys.pass_on_all),
        ("called", limits.call_waiting),
        ("republished", republish),
        ("children", children.sweep),
        ("orphans", children.cancel_orphans),
        ("expired_approvals", expiry.expire_due),
        ("reminded", reminders.remind_due),
        ("reconsidered", reconsider.policies_changed),
        ("approved_too_long_ago", reconsider.not_run_in_time),
        ("asked_back", asked.answer_all),
        ("notifications", notify.deliver_due),
        ("triggers", triggers.sweep),
        ("backtests", backtest.run_due),
        ("shadows", shadow.run_due),
        ("expired_memories", keeping.expire),
        ("evaluations", evaluations.go_on_all),
        *watchdog.parts(),
    ]
    found = {}
    for name, part in parts:
        guard()
        try:
            found[name] = part(now)
        except settle.RETRY_ERRORS:
            raise
        except (RedisError, OSError) as error:
            log.warning("sweep.broker_unreachable", extra={"part": name, "error": type(error).__name__})
        except Exception:
            log.exception("sweep.part_failed", extra={"part": name})
    return found


def expire_leases(now: datetime) -> int:
    """Running steps whose lease has run out: their worker is dead, or cut off from the database. A transaction each;
    one that cannot go on is failed and does not stop the others."""
    expired = list(
        Step.objects.filter(state=StepState.RUNNING, lease_until__lt=now)
        .order_by("lease_until")
        .values_list("pk", "job_id")[:BATCH]
    )
    for step_id, job_id in expired:
        try:
            _expire(step_id, job_id, now=now)
        except settle.RETRY_ERRORS:
            raise
        except Exception as error:
            log.exception("sweep.step_failed", extra={"job": str(job_id), "step": str(step_id)})
            _give_up(step_id, job_id, error, now=now)
    return len(expired)


@transaction.atomic
def _expire(step_id: UUID, job_id: UUID, *, now: datetime) -> None:
    job = lock_job(job_id)
    step = Step.objects.filter(pk=step_id, state=StepState.RUNNING, lease_until__lt=now).first()
    if step is None:
        return
    log.warning("step.lost", extra={"job": str(job_id), "step": str(step_id), "attempt": step.attempt})
    why = settle.Lost(f"The worker {step.claimed_by} was lost in attempt {step.attempt}.")
    settle.lost(job, step, why, actor=ENGINE, now=now)
    advance(job, now=now)


def _give_up(step_id: UUID, job_id: UUID, error: Exception, *, now: datetime) -> None:
    """The engine itself cannot set the step going again: it fails, rather than coming up with every sweep."""
    try:
        with transaction.atomic():
            job = lock_job(job_id)
            step = Step.objects.filter(pk=step_id, state=StepState.RUNNING, lease_until__lt=now).first()
            if step is None:
                return
            crashed = settle.Crashed(f"{type(error).__name__}: {error}")
            settle.end_attempt(step, "lost", now=now, error=crashed)
            settle.fail(step, code=crashed.code, message=crashed.message, actor=ENGINE, now=now)
            advance(job, now=now)
    except settle.RETRY_ERRORS:
        raise
    except Exception:
        log.exception("sweep.step_stuck", extra={"job": str(job_id), "step": str(step_id)})


def forget_dispatches_if_the_broker_is_new(now: datetime) -> int:
    """The broker lost its data: every message went with it, so all are sent again at once."""
    if not epoch.is_new():
        return 0
    return Step.objects.filter(state__in=STEP_SENT, dispatched_at__isnull=False).update(dispatched_at=None)


def republish(now: datetime) -> int:
    """Sends what was never sent, retries that are due, and what has waited for 30 s x 2^dispatches, in the fair order
    and as far as the queues have room."""
    _forget_overdue(now)
    return release.release_all(now)


def _forget_overdue(now: datetime) -> None:
    """Messages that were sent so long ago that they count as lost: their steps wait for release again."""
    sent = Step.objects.filter(state__in=STEP_SENT, dispatched_at__isnull=False).exclude(
        state=StepState.IN_DOUBT, error_code=doubt.NEEDS_PERSON
    )
    overdue = sent.filter(_overdue(now)).order_by("pk").select_for_update(skip_locked=True, no_key=True)[:BATCH]
    with transaction.atomic():
        ids = list(overdue.values_list("pk", flat=True))
        Step.objects.filter(pk__in=ids).update(dispatched_at=None, dispatches=F("dispatches") + 1)


def _overdue(now: datetime) -> Q:
    """All in the query, so that what is not due yet takes no place in a batch."""
    overdue = Q(
        dispatches__gte=DOUBLINGS,
        dispatched_at__lt=now - timedelta(seconds=settings.STEP_REPUBLISH_AFTER_S * 2**DOUBLINGS),
    )
    for dispatches in range(DOUBLINGS):
        after = timedelta(seconds=settings.STEP_REPUBLISH_AFTER_S * 2**dispatches)
        overdue |= Q(dispatches=dispatches, dispatched_at__lt=now - after)
    return overdue
