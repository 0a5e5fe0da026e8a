"""Times in words. Pure."""

from datetime import datetime

_UNITS = ((86_400, "day", "days"), (3_600, "hour", "hours"), (60, "minute", "minutes"))


def span(seconds: float) -> str:
    """The largest unit, and the next where it says something: "2 hours 5 minutes", "3 days", "less than a minute"."""
    left, parts = max(int(seconds), 0), []
    for size, one, many in _UNITS:
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number} {one if number == 1 else many}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts) or "less than a minute"


def until(then: datetime, now: datetime) -> str:
    """When something will be, or was."""
    seconds = (then - now).total_seconds()
    return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"
