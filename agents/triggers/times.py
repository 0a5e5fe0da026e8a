"""When a schedule is due. Pure.

Daylight saving as Debian's cron: a job at a fixed time runs once a day, also on the day whose clock skips that time
(then at the first moment after the gap) or shows it twice (then the first time); a job each hour or minute goes by
elapsed time.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from agents.errors import InvalidInput

INTERVAL_MIN_S, INTERVAL_MAX_S = 10, 366 * 86_400
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS = ["minute", "hour", "day of the month", "month", "day of the week"]


def check(*, cron: str, time_zone: str, interval_s: int | None, now: datetime) -> None:
    """Refuses what is no schedule, or never fires.

    Raises:
        InvalidInput: of `cron`, `time_zone` or `interval_s`.
    """
    if not cron.strip() and interval_s is None:
        raise InvalidInput("Give a cron expression, or an interval in interval_s.", field="cron")
    if cron.strip() and interval_s is not None:
        raise InvalidInput("Give a cron expression or an interval, not both.", field="cron")
    if time_zone not in available_timezones():
        raise InvalidInput(f"There is no time zone {time_zone[:80]!r}: give an IANA name.", field="time_zone")
    if interval_s is not None:
        if not INTERVAL_MIN_S <= interval_s <= INTERVAL_MAX_S:
            raise InvalidInput(f"Must be {INTERVAL_MIN_S} to {INTERVAL_MAX_S} seconds.", field="interval_s")
        return
    if cron.strip().lower() not in ALIASES and len(cron.split()) != 5:
        raise InvalidInput(f"A cron expression has five fields: {', '.join(FIELDS)}.", field="cron")
    try:
        found = next(_cron(cron, time_zone, now), None)
    except CronSimError as error:
        raise InvalidInput(_why(str(error)), field="cron") from None
    if found is None:
        raise InvalidInput("It never fires: no such day comes in the next 50 years.", field="cron")


def due_times(
    *, cron: str, time_zone: str, interval_s: int | None, anchor: datetime, after: datetime
) -> Iterator[datetime]:
    """The times after `after`, in order, in UTC; an interval counts from `anchor`."""
    if interval_s is not None:
        step = timedelta(seconds=interval_s)
        at = anchor + step * max(1, (after - anchor) // step + 1)
        while True:
            yield at
            at += step
    try:
        yield from _cron(cron, time_zone, after)
    except CronSimError:
        return


def upcoming(
    count: int, *, cron: str, time_zone: str, interval_s: int | None, anchor: datetime, after: datetime
) -> list[datetime]:
    """The next `count` times, or fewer where there are no more."""
    times = due_times(cron=cron, time_zone=time_zone, interval_s=interval_s, anchor=anchor, after=after)
    return list(islice(times, count))


def _cron(cron: str, time_zone: str, after: datetime) -> Iterator[datetime]:
    """Raises CronSimError."""
    expression = ALIASES.get(cron.strip().lower(), cron)
    zone = ZoneInfo(time_zone)
    for found in CronSim(expression, after.astimezone(UTC if time_zone == "UTC" else zone)):
        at = found.astimezone(UTC)
        if at > after:
            yield at


def _why(error: str) -> str:
    """cronsim's words are short."""
    if error == "Bad day-of-month":
        return "Bad day of the month: it has no such day, or the months named never do, so it would never fire."
    return f"{error.replace('-', ' ')}." if error else "It is no cron expression."
