"""Decisions as they were taken, with the inputs that they were taken on. Whoever takes them registers as their source:
this app does not know what a step is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from approvals.policy.evaluate import Decision
from approvals.policy.inputs import PolicyInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One decision. inputs: the calls that it was about, of which the strictest answer counts; exact: they are as they
    were recorded (of older decisions, owner and agent are read as they are now)."""

    subject_id: str
    parent_id: str
    path: str
    command: str
    at: datetime
    inputs: Sequence[PolicyInput]
    decision: Decision
    exact: bool = True


class Source(Protocol):
    """Where recorded decisions come from."""

    def count(self, since: datetime, until: datetime) -> int:
        """About how many there are, never less than nothing."""
        ...

    def page(self, since: datetime, until: datetime, *, before: str, limit: int) -> tuple[list[Recorded], str]:
        """The newest `limit` that are older than the cursor `before` ("": the newest of all), and the cursor for the
        next page; "" where there is none."""
        ...

    def of(self, subject_ids: Iterable[str]) -> list[Recorded]:
        """The latest decision about each of these subjects that has one."""
        ...

    def position(self) -> int:
        """How far the record of decisions reaches now."""
        ...

    def after(self, position: int) -> tuple[list[Recorded], int]:
        """The next decisions in the order in which they were recorded, some hundred at most, and how far that is."""
        ...


class Nothing:
    """Where nobody takes decisions."""

    def count(self, since: datetime, until: datetime) -> int:
        return 0

    def page(self, since: datetime, until: datetime, *, before: str, limit: int) -> tuple[list[Recorded], str]:
        return [], ""

    def of(self, subject_ids: Iterable[str]) -> list[Recorded]:
        return []

    def position(self) -> int:
        return 0

    def after(self, position: int) -> tuple[list[Recorded], int]:
        return [], position


_source: Source = Nothing()


def register(source: Source) -> Source:
    """Makes `source` the one that is asked; gives the one before."""
    global _source
    before, _source = _source, source
    return before


def source() -> Source:
    return _source
