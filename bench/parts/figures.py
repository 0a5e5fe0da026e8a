"""Figures with their reach: as a table for people, and as JSON for machines."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value. reach: what it should be, as a limit (`at_least` says from which side), or None."""

    name: str
    value: float
    unit: str
    reach: float | None = None
    at_least: bool = True

    @property
    def ok(self) -> bool:
        if self.reach is None:
            return True
        return self.value >= self.reach if self.at_least else self.value <= self.reach

    def as_json(self) -> dict[str, object]:
        wanted = asdict(self)
        del wanted["at_least"]
        return {**wanted, "value": round(self.value, 4), "ok": self.ok}

    def line(self) -> str:
        reach = ""
        if self.reach is not None:
            reach = f"{'>=' if self.at_least else '<='} {self.reach:g}"
        return f"| {self.name} | {_shown(self.value)} | {self.unit} | {reach} | {_verdict(self)} |"


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")


def show(figures: Sequence[Figure]) -> None:
    """The table, as Markdown."""
    print("| figure | value | unit | reach | |\n|---|---|---|---|---|")
    for figure in figures:
        print(figure.line())


def write_json(figures: Sequence[Figure], path: Path) -> None:
    path.write_text(json.dumps({"figures": [figure.as_json() for figure in figures]}, indent=1) + "\n")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def _verdict(figure: Figure) -> str:
    if figure.reach is None:
        return ""
    if figure.ok:
        return "reached"
    missed = abs(figure.value - figure.reach) / figure.reach * 100 if figure.reach else 0.0
    return f"missed by {missed:.0f} %"
