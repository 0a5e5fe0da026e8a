"""Jobs that schedules and rules start. A run is a row before it is a job: whoever finds it due starts it, once."""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Q

from agents.errors import AgentsError, QueueFull
from agents.models import Job, TriggerRun
from agents.states import JOB_DONE
from agents.submit import submit
from agents.triggers import expressions
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

log = logging.getLogger(__name__)

BATCH = 50
QUEUED_MAX = 20  # times of one schedule that wait for its last job
AGAIN = timedelta(seconds=30)
GIVE_UP = timedelta(hours=24)  # a queue that is full for a day
State = TriggerRun.State


def start_due(now: datetime) -> int:
    """Starts what is due, a transaction each; one that cannot be started is failed and does not stop the others."""
    due = TriggerRun.objects.filter(Q(not_before__isnull=True) | Q(not_before__lte=now), state=State.DUE)
    started = 0
    for run_id in due.order_by("due_at", "id").values_list("pk", flat=True)[:BATCH]:
        try:
            started += _start(run_id, now=now)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            log.exception("trigger.start_failed", extra={"run": str(run_id)})
            with transaction.atomic():
                run = _held(run_id)
                if run is not None:
                    end(run, State.FAILED, code="internal_error", reason=type(error).__name__, now=now)
    return started


def end(
    run: TriggerRun, state: State, *, now: datetime, code: str = "", reason: str = "", job: Job | None = None
) -> None:
    """The run's last move, with its record, in the caller's transaction."""
    run.state, run.code, run.reason, run.job, run.ended_at = state, code, reason[:1000], job, now
    run.save(update_fields=["state", "code", "reason", "job", "ended_at"])
    noun, row = ("schedule", run.schedule) if run.schedule is not None else ("event_rule", run.rule)
    assert row is not None
    record(
        Event.TRIGGER_FIRED,
        actor=Actor.system("triggers"),
        target=Target(type=noun, id=str(row.pk)),
        outcome=str(state),
        context={
            "name": row.name,
            "run": str(run.pk),
            "due_at": run.due_at.isoformat(),
            "job": None if job is None else str(job.pk),
            "code": code,
        },
        payload={"reason": run.reason} if run.reason else None,
    )


@transaction.atomic
def _start(run_id: Any, *, now: datetime) -> int:
    run = _held(run_id)
    if run is None:
        return 0
    row = run.schedule or run.rule
    assert row is not None
    if not row.enabled:
        end(run, State.SKIPPED, code="off", reason="It was turned off meanwhile.", now=now)
        return 0
    if not row.owner.is_active:
        end(run, State.FAILED, code="owner_inactive", reason="Its owner is not active.", now=now)
        return 0
    if run.schedule is not None and _waits(run, now=now):
        return 0
    try:
        with transaction.atomic():
            payload = expressions.submission(row.payload, expressions.scope(_variables(run)))
            key = f"trigger:{run.pk}"
            job, _ = submit(payload, user=row.owner, idempotency_key=key, trigger=_name(run), now=now)
    except QueueFull as error:
        if now - run.created_at > GIVE_UP:
            end(run, State.FAILED, code=error.code, reason=error.message, now=now)
        else:
            TriggerRun.objects.filter(pk=run.pk).update(
                not_before=now + AGAIN, code=error.code, reason="The queue is full: it is tried again."
            )
        return 0
    except AgentsError as error:
        end(run, State.FAILED, code=error.code, reason=error.message, now=now)
        return 0
    end(run, State.STARTED, job=job, now=now)
    return 1


def _held(run_id: Any) -> TriggerRun | None:
    """The run, locked, unless another sweeper holds it or has ended it."""
    runs = TriggerRun.objects.select_for_update(of=("self",), skip_locked=True)
    return runs.select_related("schedule__owner", "rule__owner").filter(pk=run_id, state=State.DUE).first()


def _waits(run: TriggerRun, *, now: datetime) -> bool:
    """Does the schedule's overlap policy hold this run back, or leave it out?"""
    schedule = run.schedule
    assert schedule is not None
    if schedule.overlap == schedule.Overlap.ALLOW:
        return False
    # the schedule's lock makes two runs of it serial
    type(schedule).objects.select_for_update(no_key=True).get(pk=schedule.pk)
    earlier = TriggerRun.objects.filter(schedule=schedule)
    open_jobs = earlier.filter(state=State.STARTED, job__isnull=False).exclude(job__state__in=JOB_DONE)
    queued = earlier.filter(state=State.DUE, due_at__lt=run.due_at)
    before = schedule.overlap == schedule.Overlap.QUEUE and queued.exists()
    if not before and not open_jobs.exists():
        return False
    if schedule.overlap == schedule.Overlap.SKIP:
        end(run, State.SKIPPED, code="overlap", reason="The job before had not ended.", now=now)
        return True
    if queued.count() >= QUEUED_MAX:
        end(run, State.SKIPPED, code="overlap", reason=f"{QUEUED_MAX} earlier times wait already.", now=now)
        return True
    TriggerRun.objects.filter(pk=run.pk).update(
        not_before=now + timedelta(seconds=1), code="overlap", reason="It waits for the job before."
    )
    return True


def _name(run: TriggerRun) -> str:
    return f"schedule:{run.schedule.name}" if run.schedule is not None else f"rule:{run.rule.name}"  # type: ignore[union-attr]


def _variables(run: TriggerRun) -> dict[str, Any]:
    if run.schedule is not None:
        return schedule_facts(run.schedule.name, run.due_at)
    matches = run.matches.select_related("event").order_by("place")
    return {"key": run.key, "events": [event_facts(match.event) for match in matches]}


def schedule_facts(name: str, due_at: datetime) -> dict[str, Any]:
    """A time of a schedule as expressions see it."""
    return {"schedule": {"name": name, "due_at": due_at.isoformat()}}


def event_facts(event: Any) -> dict[str, Any]:
    """An event as expressions see it."""
    return {
        "id": str(event.pk),
        "name": event.name,
        "key": event.key,
        "data": event.data,
        "source": event.source,
        "at": event.at.isoformat(),
    }
