"""The picture of a job: a lane a step, on one axis of time that draws long waits shorter. Pure.

Steps take milliseconds, approvals take hours: on a linear axis one of the two is invisible. Every stretch between two
neighbouring events is therefore drawn as its length to the power of 0.4; order and simultaneity stay true, and the
axis and the column of times carry the real figures.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from agents.web.words import duration, rough

EXPONENT = 0.4
FUTURE_PERCENT = 8.0  # of the width, kept free for steps that have not begun


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time; kind: `queue`, `wait` (for people), `run`, or `mark` (an end without a run)."""

    kind: str
    start: datetime
    end: datetime
    title: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A span as drawn: `x` and `width` in percent of the lane."""

    kind: str
    x: str
    width: str
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    x: str
    label: str
    anchor: str


class Axis:
    """Maps times to percent of the width."""

    def __init__(self, times: Iterable[datetime], *, future: bool = False) -> None:
        self._times = sorted(set(times))
        self._width = 100.0 - FUTURE_PERCENT if future else 100.0
        self._at = [0.0]
        for earlier, later in zip(self._times, self._times[1:], strict=False):
            self._at.append(self._at[-1] + (later - earlier).total_seconds() ** EXPONENT)
        self._total = self._at[-1] or 1.0

    @property
    def end(self) -> float:
        """Where the known time ends."""
        return self._width if len(self._times) > 1 else 0.0

    def x(self, time: datetime) -> float:
        """The place of one of the times that the axis was made of; others are put between their neighbours."""
        if not self._times or time <= self._times[0]:
            return 0.0
        index = bisect_right(self._times, time) - 1
        place = self._at[index]
        if index + 1 < len(self._times):
            whole = (self._times[index + 1] - self._times[index]).total_seconds()
            share = (time - self._times[index]).total_seconds() / whole
            place += share * (self._at[index + 1] - self._at[index])
        return place / self._total * self._width

    def ticks(self, number: int = 2) -> list[Tick]:
        """Evenly spaced places, each with the time since the start that it stands for."""
        if len(self._times) < 2:
            return []
        ticks: list[Tick] = []
        for step in range(number + 1):
            share = step / number
            elapsed = self._elapsed(share * self._total)
            label = duration(elapsed) if step == number or elapsed < 1 else rough(elapsed)
            anchor = "start" if step == 0 else "end" if step == number else "middle"
            if not ticks or ticks[-1].label != label:
                ticks.append(Tick(percent(share * self._width), label, anchor))
        return ticks

    def _elapsed(self, place: float) -> float:
        index = min(bisect_right(self._at, place) - 1, len(self._at) - 2)
        width = self._at[index + 1] - self._at[index]
        share = (place - self._at[index]) / width if width else 0.0
        start, end = self._times[index], self._times[index + 1]
        return (start - self._times[0]).total_seconds() + share * (end - start).total_seconds()


def percent(value: float) -> str:
    return f"{value:.2f}%"


def bars(axis: Axis, spans: Sequence[Span]) -> list[Bar]:
    """The spans of one lane, in drawing order."""
    drawn = []
    for span in spans:
        x = axis.x(span.start)
        drawn.append(Bar(span.kind, percent(x), percent(max(axis.x(span.end) - x, 0.0)), span.title))
    return drawn
