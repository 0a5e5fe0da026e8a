"""Jobs ended a day, as a stacked bar chart: the picture's places, and its table for those who cannot see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import Count, QuerySet
from django.db.models.functions import TruncDate
from django.utils import timezone

from agents.models import Job
from agents.states import JobState

STATES = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.COMPENSATED)  # from the ground up
HEIGHT_PX = 84  # of the highest day
TOP_PX = 18  # above it, for its number
SHARE = 0.56  # of a day's width, taken by its bar


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A state's part of a day's bar; y and height in pixels."""

    state: str
    number: int
    y: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """name: `Mon 16`; x, middle: percent of the width; label_y: above the bar; numbers: by state, in STATES' order."""

    day: date
    name: str
    x: str
    middle: str
    label_y: float
    total: int
    numbers: list[int]
    pieces: list[Piece]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    days: list[Day]
    states: list[str]
    bar_width: str
    ground_y: int
    name_y: int
    height: int
    total: int
    summary: str


def ended_by_day(jobs: QuerySet[Job], now: datetime, *, days: int) -> Chart:
    """The last `days` days, today included, each from midnight to midnight of the server's time."""
    today = timezone.localdate(now)
    first = today - timedelta(days=days - 1)
    rows = (
        jobs.order_by()
        .filter(state__in=STATES, finished_at__gte=now - timedelta(days=days))
        .annotate(day=TruncDate("finished_at"))
        .values("day", "state")
        .annotate(number=Count("pk"))
    )
    counted: dict[date, dict[str, int]] = {}
    for row in rows:
        counted.setdefault(row["day"], {})[row["state"]] = row["number"]
    return chart([(first + timedelta(days=n), counted.get(first + timedelta(days=n), {})) for n in range(days)])


def chart(days: list[tuple[date, Mapping[str, int]]]) -> Chart:
    """The picture of these days' numbers by state. Pure."""
    most = max((sum(numbers.values()) for _, numbers in days), default=0)
    width = 100 / max(len(days), 1)
    drawn = []
    for place, (day, numbers) in enumerate(days):
        total, at, pieces = sum(numbers.values()), float(TOP_PX + HEIGHT_PX), []
        for state in STATES:
            if number := numbers.get(state, 0):
                height = HEIGHT_PX * number / most
                at -= height
                pieces.append(Piece(state=state.value, number=number, y=round(at, 2), height=round(height, 2)))
        drawn.append(
            Day(
                day=day,
                name=f"{day:%a} {day.day}",
                x=f"{(place + (1 - SHARE) / 2) * width:.2f}%",
                middle=f"{(place + 0.5) * width:.2f}%",
                label_y=round(at - 5, 2),
                total=total,
                numbers=[numbers.get(state, 0) for state in STATES],
                pieces=pieces,
            )
        )
    sums = {state.value: sum(numbers.get(state, 0) for _, numbers in days) for state in STATES}
    return Chart(
        days=drawn,
        states=[state.value for state in STATES],
        bar_width=f"{SHARE * width:.2f}%",
        ground_y=TOP_PX + HEIGHT_PX,
        name_y=TOP_PX + HEIGHT_PX + 17,
        height=TOP_PX + HEIGHT_PX + 24,
        total=sum(sums.values()),
        summary=", ".join(f"{number} {state}" for state, number in sums.items()),
    )
