"""Schedules: which times are due, each as one row."""

from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import transaction

from agents.models import Schedule, TriggerRun
from agents.triggers import runs, times
from agents.triggers.errors import TriggerOff
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

BATCH = 100
GRACE = timedelta(seconds=60)  # a time that is found later than this was missed
CATCH_UP_MAX = 100  # times that are made up for; of more, the latest
SCANNED_MAX = 50_000
State = TriggerRun.State


def fire_due(now: datetime) -> int:
    """Writes the runs of every schedule whose time has come. Two that do it at once write each run once."""
    due = Schedule.objects.filter(enabled=True, next_due_at__lte=now).order_by("next_due_at")
    return sum(_fire(schedule_id, now=now) for schedule_id in due.values_list("pk", flat=True)[:BATCH])


def upcoming(schedule: Schedule, *, count: int, after: datetime) -> list[datetime]:
    """The next times of an enabled schedule."""
    return times.upcoming(count, **_rhythm(schedule), after=after) if schedule.enabled else []


@transaction.atomic
def _fire(schedule_id: UUID, *, now: datetime) -> int:
    """Times from `next_due_at` to now become runs; `next_due_at` moves behind now."""
    held = Schedule.objects.select_for_update(skip_locked=True).filter(
        pk=schedule_id, enabled=True, next_due_at__lte=now
    )
    schedule = held.first()
    if schedule is None or schedule.next_due_at is None:
        return 0
    due, left_out, following = _times(schedule, schedule.next_due_at, now)
    written = TriggerRun.objects.bulk_create(
        [TriggerRun(schedule=schedule, due_at=at, created_at=now) for at in due], ignore_conflicts=True
    )
    if left_out:
        _note_missed(schedule, left_out, now=now)
    Schedule.objects.filter(pk=schedule.pk).update(next_due_at=following)
    return len(written)


def _times(
    schedule: Schedule, first: datetime, now: datetime
) -> tuple[list[datetime], list[datetime], datetime | None]:
    """What runs, what was missed and does not, and the first time after now."""
    before = first - timedelta(microseconds=1)
    come: list[datetime] = []
    following = None
    for at in islice(times.due_times(**_rhythm(schedule), after=before), SCANNED_MAX):
        if at > now:
            following = at
            break
        come.append(at)
    if following is None:
        following = next(iter(times.upcoming(1, **_rhythm(schedule), after=now)), None)
    on_time = [at for at in come if now - at <= GRACE]
    missed = [at for at in come if now - at > GRACE]
    if schedule.catch_up == Schedule.CatchUp.ALL:
        due = come[-CATCH_UP_MAX:]
    elif schedule.catch_up == Schedule.CatchUp.LAST:
        due = on_time or missed[-1:]
    else:
        due = on_time
    kept = set(due)
    return due, [at for at in missed if at not in kept], following


def _note_missed(schedule: Schedule, missed: list[datetime], *, now: datetime) -> None:
    """One row that says how many times were left out, at the latest of them."""
    run, new = TriggerRun.objects.get_or_create(schedule=schedule, due_at=missed[-1], defaults={"created_at": now})
    if new:
        times_missed = f"{len(missed)} time{'s' if len(missed) != 1 else ''}"
        why = f"{times_missed} since {missed[0]:%Y-%m-%d %H:%M} UTC passed while nothing was looking."
        runs.end(run, State.SKIPPED, code="missed", reason=why, now=now)


def _rhythm(schedule: Schedule) -> dict[str, Any]:
    return {
        "cron": schedule.cron,
        "time_zone": schedule.time_zone,
        "interval_s": schedule.interval_s,
        "anchor": schedule.created_at,
    }


@transaction.atomic
def run_now(schedule: Schedule, *, by: Actor, now: datetime) -> TriggerRun:
    """A run at this moment, beside the schedule's times; the next sweep starts it.

    Raises:
        TriggerOff: it is paused.
    """
    if not schedule.enabled:
        raise TriggerOff("The schedule is paused: turn it on first.")
    run = TriggerRun.objects.create(schedule=schedule, due_at=now, created_at=now)
    record(
        Event.TRIGGER_CHANGED,
        actor=by,
        target=Target(type="schedule", id=str(schedule.pk)),
        context={"action": "run_now", "name": schedule.name, "run": str(run.pk)},
    )
    return run
