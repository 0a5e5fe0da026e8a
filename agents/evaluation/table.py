"""What came of an evaluation, in numbers: each arm's, and how two of them differ. Pure."""

import math
import statistics
from collections.abc import Iterator, Sequence
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
    why: str
    tokens: int
    cost: Decimal
    latency_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One arm. success, low and high: shares from 0 to 1, with the Wilson interval of 95 %; cost (US dollars), tokens:
    means a trial; latency_ms: the median. waiting: not judged yet; dropped: cancelled, and never judged."""

    arm: str
    judged: int
    passed: int
    waiting: int
    dropped: int
    success: float
    low: float
    high: float
    cost: Decimal
    tokens: float
    latency_ms: float

    @property
    def interval(self) -> str:
        return f"{self.low:.0%} to {self.high:.0%}"

    @property
    def seconds(self) -> float:
        return self.latency_ms / 1000

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is asked of each arm but the first, or of the only one. success: a share of 1; the others are at most, a
    trial; no_worse: it passes at least as many as the first, of the trials that both have ended."""

    success: float | None = None
    cost: Decimal | None = None
    tokens: int | None = None
    latency_ms: float | None = None
    no_worse: bool = False

    def missed(self, trials: Sequence[Tried], arms: Sequence[str]) -> list[str]:
        """Each bound that does not hold, in words; where nothing was judged none that is given does."""
        found = [words for one in lines(trials, arms[1:] or arms) for words in self._missed(one)]
        if self.no_worse:
            found += [
                f"{one.second} passed {one.only_first - one.only_second} fewer than {one.first}."
                for one in differences(trials, arms)
                if one.only_first > one.only_second
            ]
        return found

    def _missed(self, one: Line) -> Iterator[str]:
        bounds = (self.success, self.cost, self.tokens, self.latency_ms)
        if not one.judged and any(bound is not None for bound in bounds):
            yield f"{one.arm}: nothing was judged."
            return
        if self.success is not None and one.success < self.success:
            yield f"{one.arm} passed {one.success:.1%}, less than {self.success:.1%}."
        if self.cost is not None and one.cost > self.cost:
            yield f"{one.arm} cost ${one.cost:.4f} a trial, more than ${self.cost}."
        if self.tokens is not None and one.tokens > self.tokens:
            yield f"{one.arm} took {one.tokens:.0f} tokens a trial, more than {self.tokens}."
        if self.latency_ms is not None and one.latency_ms > self.latency_ms:
            yield f"{one.arm} took {one.latency_ms / 1000:.1f} s a trial, more than {self.latency_ms / 1000:g} s."


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
            one.interval if one.judged else "-",
            f"${one.cost:.4f}",
            f"{one.tokens:.0f}",
            f"{one.seconds:.1f} s",
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
    dropped = sum(one.ok is None and bool(one.why) for one in trials)
    passed = sum(bool(one.ok) for one in judged)
    low, high = interval(passed, len(judged))
    return Line(
        arm=name,
        judged=len(judged),
        passed=passed,
        waiting=len(trials) - len(judged) - dropped,
        dropped=dropped,
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
