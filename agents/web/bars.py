"""Sums by day and kind as stacked bars: the picture's places, and its table for those who cannot see it. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

HEIGHT_PX = 96  # of the highest day
TOP_PX = 18  # above it, for its number
SHARE = 0.6  # of a day's width, taken by its bar
SERIES_MAX = 6  # the colours that there are; the rest is one series
REST = "others"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A kind's part of a day's bar: its number among the series, its value in words; y and height in pixels."""

    series: int
    name: str
    said: str
    y: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """name: `Mon 16`; x, middle: percent of the width; label_y: above the bar; cells: in the series' order."""

    name: str
    x: str
    middle: str
    label_y: float
    said: str
    cells: list[str]
    pieces: list[Piece]
    named: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """series: (number, name, sum in words), the largest first."""

    bars: list[Bar]
    series: list[tuple[int, str, str]]
    width: str
    ground_y: int
    name_y: int
    height: int
    empty: bool
    summary: str


def stacked(
    days: Sequence[date],
    values: Mapping[tuple[date, str], float],
    *,
    words: Callable[[float], str],
    colours: Sequence[str] = (),
) -> Bars:
    """The picture of values by day and kind. words: how a value is written; colours: kinds that have the same colour in
    several pictures, in the colours' order."""
    sums: dict[str, float] = {}
    for (_, kind), value in values.items():
        sums[kind] = sums.get(kind, 0.0) + value
    names = sorted((kind for kind, total in sums.items() if total), key=lambda kind: (-sums[kind], kind))
    if len(names) > SERIES_MAX:
        names = [*names[: SERIES_MAX - 1], REST]
    colour = _colours(names, colours)
    by_day = {day: [0.0] * len(names) for day in days}
    for (day, kind), value in values.items():
        if day in by_day and value:
            by_day[day][names.index(kind) if kind in names else len(names) - 1] += value
    most = max((sum(one) for one in by_day.values()), default=0.0)
    width = 100 / max(len(days), 1)
    every = max(1, -(-len(days) // 10))  # so that names do not touch on a phone
    made = []
    for place, day in enumerate(days):
        at, pieces = float(TOP_PX + HEIGHT_PX), []
        for number, value in enumerate(by_day[day]):
            if value:
                height = HEIGHT_PX * value / most
                at -= height
                pieces.append(
                    Piece(
                        series=colour[names[number]],
                        name=names[number],
                        said=words(value),
                        y=round(at, 2),
                        height=round(height, 2),
                    )
                )
        total = sum(by_day[day])
        made.append(
            Bar(
                name=f"{day:%a} {day.day}",
                x=f"{(place + (1 - SHARE) / 2) * width:.2f}%",
                middle=f"{(place + 0.5) * width:.2f}%",
                label_y=round(at - 5, 2),
                said=words(total) if total else "",
                cells=[words(value) for value in by_day[day]],
                pieces=pieces,
                named=(len(days) - 1 - place) % every == 0,
            )
        )
    totals = [sum(by_day[day][number] for day in days) for number in range(len(names))]
    series = [(colour[name], name, words(total)) for name, total in zip(names, totals, strict=True)]
    return Bars(
        bars=made,
        series=series,
        width=f"{SHARE * width:.2f}%",
        ground_y=TOP_PX + HEIGHT_PX,
        name_y=TOP_PX + HEIGHT_PX + 17,
        height=TOP_PX + HEIGHT_PX + 24,
        empty=most == 0,
        summary=", ".join(f"{said} {name}" for _, name, said in series),
    )


def _colours(names: Sequence[str], order: Sequence[str]) -> dict[str, int]:
    """A colour for each: its own where it is among the first of the order, else one that is left."""
    own = {name: order.index(name) for name in names if name in order[:SERIES_MAX]}
    free = (number for number in range(SERIES_MAX) if number not in own.values())
    return {name: own[name] if name in own else next(free, SERIES_MAX - 1) for name in names}
