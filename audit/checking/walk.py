"""The whole log, stretch by stretch: in this process where it is short, by several processes where it is long.

Processes read the same snapshot of the database. What needs the order of the log, above all the tree, is put together here.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing import get_context
from typing import Any
from uuid import UUID

import django
from django.db import connection, transaction

from audit.checking.archives import Archived
from audit.checking.checkpoints import Claims
from audit.checking.findings import Report
from audit.checking.records import Known, Stretch, StretchCheck
from audit.merkle import Edge

STRETCH = 4_096
ALONE = 50_000  # as many records one process checks before others have begun
_AHEAD = 8  # stretches that wait for each process


@dataclass(slots=True)
class Walk:
    """Walks the log from `edge` on. `claims` are compared with the root at each size that they speak of."""

    report: Report
    claims: Claims
    edge: Edge
    known: Known
    archived: list[Archived] = field(default_factory=list)
    processes: int | None = None
    oldest_unsigned: datetime | None = None
    guards: list[tuple[int, str, str, bool]] = field(default_factory=list)
    _root_reported: bool = False
    _erased: dict[str, set[str]] = field(default_factory=dict)
    _erasures: dict[str, set[str]] = field(default_factory=dict)
    _absent: dict[int, int] = field(default_factory=dict)

    def run(self, progress: Callable[[int], None]) -> None:
        """Reads every record from the edge's size on; `progress` gets the number of records behind it."""
        start, stop = self.edge.size, self.report.size
        for stretch in self._stretches(start, stop):
            self._take(stretch)
            progress(self.edge.size)
        if self.edge.size < stop:
            self._gap(stop)
        self._compare_erasures()
        if start == 0:
            self._compare_archived()

    def _stretches(self, start: int, stop: int) -> Iterator[Stretch]:
        places = [(first, min(first + STRETCH, stop)) for first in range(start, stop, STRETCH)]
        processes = (os.cpu_count() or 1) if self.processes is None else self.processes
        if processes < 2 or stop - start <= ALONE:
            check = StretchCheck(self.known)
            for first, last in places:
                yield check.run(first, last)
            return
        with _workers(processes, self.known) as submit:
            waiting: deque[Future[Stretch]] = deque()
            for first, last in places:
                waiting.append(submit(first, last))
                if len(waiting) >= processes * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _take(self, stretch: Stretch) -> None:
        for first, hashes in stretch.leaves:
            if first != self.edge.size:
                self._gap(first)
            append, roots = self.edge.append, self.claims.roots
            for place in range(0, len(hashes), 32):
                append(bytes(hashes[place : place + 32]))
                if self.edge.size in roots:
                    self._compare_root()
        for finding in stretch.findings:
            self.report.take(finding)
        self.report.checked += stretch.checked
        self.guards += stretch.guards
        for ours, theirs in ((self._erased, stretch.erased), (self._erasures, stretch.erasures)):
            for record, slots in theirs.items():
                ours.setdefault(record, set()).update(slots)
        for number, count in stretch.archived.items():
            self._absent[number] = self._absent.get(number, 0) + count
            self.report.archived += count
        if stretch.oldest_unsigned is not None:
            self.oldest_unsigned = min(self.oldest_unsigned or stretch.oldest_unsigned, stretch.oldest_unsigned)

    def _gap(self, until: int) -> None:
        size = self.edge.size
        self.report.add("leaf_gone", f"The log has no record from index {size} to {until - 1}.", index=size)
        self.edge.size = until  # roots are wrong from here on, indexes are right
        self.edge.hashes = [bytes(32)] * until.bit_count()

    def _compare_root(self) -> None:
        """Does the root at the present size agree with all that was signed about it?"""
        size, root = self.edge.size, self.edge.root()
        wrong = [where for value, where in self.claims.roots[size].items() if value != root]
        if not wrong:
            self.claims.good = size
        elif not self._root_reported:
            self._root_reported = True  # every later root is wrong as well
            first = self.claims.good
            self.report.add(
                "root_differs",
                f"The records from index {first} to {size - 1} are not, or not in the order, that were signed: "
                f"{wrong[0]} has another root.",
                index=first,
                record=_record_at(first),
            )

    def _compare_erasures(self) -> None:
        for identifier, slots in self._erased.items():
            unrecorded = slots - self._erasures.get(identifier, set())
            if unrecorded:
                self.report.add(
                    "payload_erased_silently",
                    f"The payload {', '.join(sorted(unrecorded))} was erased without a record of it.",
                    record=UUID(identifier),
                )

    def _compare_archived(self) -> None:
        for number, part in enumerate(self.archived):
            absent = self._absent.get(number, 0)
            if absent != part.records:
                self.report.add(
                    "archive_differs",
                    f"{part.records} records of the part {part.name} were archived, {absent} are gone.",
                    index=part.index,
                    record=part.record,
                )


@contextmanager
def _workers(processes: int, known: Known) -> Iterator[Callable[[int, int], Future[Stretch]]]:
    """Processes that read the open transaction's snapshot."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_export_snapshot()")
        (snapshot,) = cursor.fetchone()
    # spawned, since a fork would share this connection's socket
    with ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(dict(connection.settings_dict), snapshot, known),
    ) as pool:
        try:
            yield lambda first, last: pool.submit(_check, first, last)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_open = ExitStack()  # a worker's transaction, which ends with the process
_checks: list[StretchCheck] = []


def _begin(database: dict[str, Any], snapshot: str, known: Known) -> None:
    """What a worker does first."""
    django.setup()
    connection.settings_dict.update(database)
    _open.enter_context(transaction.atomic())
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SET TRANSACTION SNAPSHOT %s", (snapshot,))
    _checks.append(StretchCheck(known))


def _check(first: int, last: int) -> Stretch:
    return _checks[0].run(first, last)


def _record_at(index: int) -> UUID | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT event_id FROM audit_leaf WHERE index = %s", (index,))
        row = cursor.fetchone()
    return row and row[0]
