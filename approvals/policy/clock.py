"""Time windows of rules: days and hours on the clock of a place."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOUR = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")
_FIELDS = frozenset({"days", "from", "to", "zone", "outside"})
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """days: 0 (Monday) to 6; first, last: minutes of the day, `last` not included; over midnight where last <= first:
    then the early hours belong to the day on which the window began; outside: all other times."""

    days: frozenset[int]
    first: int
    last: int
    zone: str
    outside: bool

    def holds(self, now: datetime) -> bool:
        """By the wall clock there, whatever daylight saving does to it."""
        there = now.astimezone(_zone(self.zone))
        return self._inside(there) is not self.outside

    def _inside(self, there: datetime) -> bool:
        minute = there.hour * 60 + there.minute
        if self.first < self.last:
            return there.weekday() in self.days and self.first <= minute < self.last
        if minute >= self.first:
            return there.weekday() in self.days
        return minute < self.last and (there - timedelta(days=1)).weekday() in self.days


def problems(given: Any) -> list[str]:
    """What is wrong with `time` of a rule, in words."""
    if not isinstance(given, dict):
        return ["time must be an object with days, from, to and zone."]
    found = [f"time has no {name!r}; it has {', '.join(sorted(_FIELDS))}." for name in sorted(set(given) - _FIELDS)]
    days = given.get("days", list(DAYS))
    if not isinstance(days, list) or not days or any(day not in DAYS for day in days):
        found.append(f"time.days must be a list of {', '.join(DAYS)}.")
    if ("from" in given) != ("to" in given):
        found.append("time needs both from and to, or neither.")
    for name in ("from", "to"):
        hour = given.get(name, "00:00")
        if not isinstance(hour, str) or not _HOUR.fullmatch(hour) or (name, hour) == ("from", "24:00"):
            found.append(f"time.{name} must be an hour such as 09:30.")
    if "from" in given and given.get("from") == given.get("to"):
        found.append("time.from and time.to are the same: leave both out for the whole day.")
    if not isinstance(given.get("outside", False), bool):
        found.append("time.outside must be true or false.")
    zone = given.get("zone")
    if not isinstance(zone, str) or not _known(zone):
        found.append("time.zone must be the name of a time zone such as Europe/Berlin or UTC.")
    return found


def window(given: dict[str, Any]) -> Window:
    """Of a `time` without problems."""
    return Window(
        days=frozenset(DAYS.index(day) for day in given.get("days", DAYS)),
        first=_minutes(given.get("from", "00:00")),
        last=_minutes(given.get("to", "24:00")),
        zone=given["zone"],
        outside=given.get("outside", False),
    )


def _minutes(hour: str) -> int:
    hours, minutes = hour.split(":")
    return min(int(hours) * 60 + int(minutes), _DAY_MINUTES)


def _known(zone: str) -> bool:
    try:
        _zone(zone)
    except (KeyError, ValueError, OSError):
        return False
    return True


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
