"""A search as a picture: a dot a candidate by generation and score, a line to each of its parents. Pure.

x is percent of whatever room there is, y is pixels: words keep their size on a narrow screen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.evolution.population import better
from agents.models import Candidate

TOP, HEIGHT, BAND, FOOT = 16, 220, 34, 22  # band: where those stand that do not work
SPREAD = 0.6  # of a generation's width, taken by its candidates
LOG_FROM = 20.0  # times the lowest score: from there on the scale is logarithmic


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """kind: origin, mutate, cross; mark: best, viable, failed or waiting."""

    name: str
    kind: str
    mark: str
    x: str
    y: float
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    x1: str
    y1: float
    x2: str
    y2: float
    best: bool  # on the way to the best


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """ticks: (y, words); generations: (x, words); band_y: the middle of those that do not work, or 0."""

    dots: list[Dot]
    lines: list[Line]
    ticks: list[tuple[float, str]]
    generations: list[tuple[str, str]]
    band_y: float
    ground_y: float
    height: int


def name_of(one: Candidate) -> str:
    return f"{one.generation}.{one.number}"


def best_of(found: Sequence[Candidate], direction: str) -> Candidate | None:
    """The first of those with the best score."""
    best: Candidate | None = None
    for one in found:
        if one.score is not None and (best is None or better(one.score, best.score or 0.0, direction)):
            best = one
    return best


def draw(found: Sequence[Candidate], direction: str) -> Picture:
    """found: in order of generation and number."""
    best = best_of(found, direction)
    count = max((one.generation for one in found), default=0) + 1
    sizes = {one.generation: max(o.number for o in found if o.generation == one.generation) + 1 for one in found}
    height_of, ticks = _scale([one.score for one in found if one.score is not None])
    low = any(one.score is None for one in found)
    ground = TOP + HEIGHT
    band_y = ground + BAND / 2 if low else 0.0

    def x(one: Candidate) -> float:
        within = (one.number + 0.5) / sizes[one.generation] - 0.5
        return 100 * (one.generation + 0.5 + within * SPREAD) / count

    def y(one: Candidate) -> float:
        return band_y if one.score is None else TOP + HEIGHT * (1 - height_of(one.score))

    places = {one.pk: (f"{x(one):.2f}%", round(y(one), 1)) for one in found}
    way = _ancestors(best, found)
    return Picture(
        dots=[
            Dot(
                name=name_of(one),
                kind=one.operator,
                mark="best" if one is best else _mark(one),
                x=places[one.pk][0],
                y=places[one.pk][1],
                said=f"{name_of(one)}: {came_of(one)}. {one.idea}"[:300],
            )
            for one in found
        ],
        lines=[
            Line(
                x1=places[parent][0],
                y1=places[parent][1],
                x2=places[one.pk][0],
                y2=places[one.pk][1],
                best=one.pk in way and parent in way,
            )
            for one in found
            for parent in one.parents
            if parent in places
        ],
        ticks=[(round(TOP + HEIGHT * (1 - height_of(value)), 1), number(value)) for value in ticks],
        generations=[(f"{100 * (place + 0.5) / count:.2f}%", str(place)) for place in range(count)],
        band_y=band_y,
        ground_y=ground,
        height=ground + (BAND if low else 0) + FOOT,
    )


def number(score: float) -> str:
    """As people read it: 163,723; 0.125."""
    return f"{score:,.0f}" if abs(score) >= 1000 else f"{score:.4g}"


def came_of(one: Candidate) -> str:
    if one.score is not None:
        return number(one.score)
    return "not measured yet" if one.viable is None else "does not work"


def _mark(one: Candidate) -> str:
    return "viable" if one.score is not None else "waiting" if one.viable is None else "failed"


def _ancestors(best: Candidate | None, found: Sequence[Candidate]) -> set[object]:
    by_id = {one.pk: one for one in found}
    seen: set[object] = set()
    waiting = [best.pk] if best is not None else []
    while waiting:
        pk = waiting.pop()
        if pk in by_id and pk not in seen:
            seen.add(pk)
            waiting += by_id[pk].parents
    return seen


def _scale(scores: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    """A function from a score to 0..1 of the height, and the scores that are written at the side."""
    if not scores:
        return (lambda score: 0.5), []
    least, most = min(scores), max(scores)
    if least == most:
        return (lambda score: 0.5), [least]
    if least > 0 and most / least >= LOG_FROM:
        span = math.log(most / least)
        return (lambda score: math.log(score / least) / span), [least, math.sqrt(least * most), most]
    return (lambda score: (score - least) / (most - least)), [least, (least + most) / 2, most]
