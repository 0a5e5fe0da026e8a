"""Times, sizes and hostile text as people read them. Pure."""

import re
from datetime import datetime, timedelta
from decimal import Decimal

# What changes or hides text for a reader: controls, bidirectional marks and overrides, zero-width characters, line
# separators, tags (Unicode TR 36, TR 39). Left alone: joiners and the emoji selector, which command output is full of.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u2800"
    "\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def readable(text: str) -> str:
    """Output with hidden characters as marks (`⟦U+202E⟧`), so that what is read is what is there; newlines and tabs stay.

    For exact calls take `approvals.visible.visible`, which also marks what output may hold for good reasons.
    """
    return _HIDDEN.sub(lambda found: f"⟦U+{ord(found[0]):04X}⟧", text.replace("\r\n", "\n"))


def digits(text: str) -> int | None:
    """The whole number of at most nine digits that a form or an address gives; None: it gives none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def duration(seconds: float | timedelta | None) -> str:
    """Two parts at most: `0 s`, `320 ms`, `4.2 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`; "" for None."""
    if seconds is None:
        return ""
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    seconds = max(seconds, 0.0)
    if seconds < 0.0005:
        return "0 s"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    for size, unit, part, part_unit in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {part_unit}" if rest else "")
    return f"{whole} s"


def rough(seconds: float | timedelta | None) -> str:
    """One part, for sentences: `3 min`, `2 h`; below a second: `a moment`."""
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if seconds is None or seconds < 1:
        return "a moment"
    first = duration(round(seconds)).split(" ")
    return " ".join(first[:2])


def ago(at: datetime | None, now: datetime) -> str:
    """`3 min ago`, `just now`; "" for None."""
    if at is None:
        return ""
    seconds = (now - at).total_seconds()
    return "just now" if seconds < 2 else f"{rough(seconds)} ago"


def between(start: datetime | None, end: datetime | None) -> str:
    """The time from `start` to `end`, as `duration` writes it; "" where either is missing."""
    return "" if start is None or end is None else duration(end - start)


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 step`, `3 steps`, `12,040 tokens`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(number: int) -> str:
    """Bytes as `812 B`, `3.4 KiB`, `12 MiB`."""
    value = float(number)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024 or unit == "MiB":
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def money(amount: Decimal | float) -> str:
    """US dollars: `$0`, `$0.0042`, `$12.30`."""
    value = float(amount)
    if value == 0:
        return "$0"
    return f"${value:.4f}" if value < 0.1 else f"${value:,.2f}"


def first_line(text: str, limit: int = 160) -> str:
    """The first line with something on it, cut at `limit` characters."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
