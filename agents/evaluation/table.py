"""What came of an evaluation, in numbers: each arm's, and how two of them differ. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Protocol

Z95 = 1.959964  # of the normal distribution, two-sided
SURE = 0.05


class Tried(Protocol):
    """A trial, as `agents.models.Trial` is one."""

    case: str
    arm: str
    repeat: int
    ok: bool | None
    tokens: int
    cost: Decimal
    latency_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One arm. success, low and high: shares from 0 to 1, with the Wilson interval of 95 %; the rest a trial."""

    arm: str
    judged: int
    passed: int
    waiting: int
    success: float
    low: float
    high: float
    cost: Decimal
    tokens: float
    latency_ms: float

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "cost": str(self.cost)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two arms on the same trials. only_first, only_second: what one of them alone passed; p: of the exact test by
    McNemar, two-sided: how likely so great a difference is where there is none."""

    first: str
    second: str
    both: int
    neither: int
    only_first: int
    only_second: int
    p: float

    @property
    def words(self) -> str:
        if self.only_first == self.only_second:
            return f"{self.first} and {self.second} passed equally many of the same trials."
        better, other = (self.first, self.second) if self.only_first > self.only_second else (self.second, self.first)
        more = abs(self.only_first - self.only_second)
        sure = "" if self.p < SURE else ", which may be chance: try more cases"
        return f"{better} passed {more} more than {other} (p = {self.p:.3f}){sure}."


def lines(trials: Sequence[Tried], arms: Sequence[str]) -> list[Line]:
    """A line an arm, in their order."""
    return [_line(name, [one for one in trials if one.arm == name]) for name in arms]


def differences(trials: Sequence[Tried], arms: Sequence[str]) -> list[Difference]:
    """The first arm against each other one, over the trials that both have ended."""
    ended = {(one.arm, one.case, one.repeat): bool(one.ok) for one in trials if one.ok is not None}
    found = []
    for other in arms[1:]:
        pairs = [
            (ok, ended[other, case, repeat])
            for (name, case, repeat), ok in ended.items()
            if name == arms[0] and (other, case, repeat) in ended
        ]
        if pairs:
            found.append(_difference(arms[0], other, pairs))
    return found


def interval(passed: int, judged: int) -> tuple[float, float]:
    """Wilson's (1927) of 95 %."""
    if not judged:
        return 0.0, 1.0
    share, square = passed / judged, Z95**2
    middle = (share + square / (2 * judged)) / (1 + square / judged)
    half = Z95 * math.sqrt(share * (1 - share) / judged + square / (4 * judged**2)) / (1 + square / judged)
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar(only_first: int, only_second: int) -> float:
    """p of the exact test, two-sided."""
    count = only_first + only_second
    tail = sum(math.comb(count, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**count)


def text(found: Sequence[Line]) -> str:
    """The table for a terminal."""
    head = ("", "passed", "success", "95 %", "cost", "tokens", "time")
    rows = [
        (
            one.arm,
            f"{one.passed}/{one.judged}" + (f" +{one.waiting}" if one.waiting else ""),
            f"{one.success:.0%}" if one.judged else "-",
            f"{one.low:.0%} to {one.high:.0%}" if one.judged else "-",
            f"${one.cost:.4f}",
            f"{one.tokens:.0f}",
            f"{one.latency_ms / 1000:.1f} s",
        )
        for one in found
    ]
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    made = [
        "  ".join(cell.ljust(width) if not place else cell.rjust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in (head, *rows))
    ]
    return "\n".join(line.rstrip() for line in made)


def _line(name: str, trials: Sequence[Tried]) -> Line:
    judged = [one for one in trials if one.ok is not None]
    passed = sum(bool(one.ok) for one in judged)
    low, high = interval(passed, len(judged))
    return Line(
        arm=name,
        judged=len(judged),
        passed=passed,
        waiting=len(trials) - len(judged),
        success=passed / len(judged) if judged else 0.0,
        low=low,
        high=high,
        cost=sum((one.cost for one in judged), Decimal(0)) / len(judged) if judged else Decimal(0),
        tokens=statistics.fmean(one.tokens for one in judged) if judged else 0.0,
        latency_ms=statistics.median(one.latency_ms for one in judged) if judged else 0.0,
    )


def _difference(first: str, second: str, pairs: Sequence[tuple[bool, bool]]) -> Difference:
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    return Difference(
        first=first,
        second=second,
        both=sum(a and b for a, b in pairs),
        neither=sum(not a and not b for a, b in pairs),
        only_first=only_first,
        only_second=only_second,
        p=mcnemar(only_first, only_second),
    )
