"""Leases: one thread a process renews every held step in one statement, and looks for cancels more often than that."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings
from django.db import Error, connection

log = logging.getLogger(__name__)

BEAT_S = 1.0
LOOK_S = 0.25  # the longest time until a running step hears of its cancel: its command may take a second to end

# Locked in the order of ids, as whoever else takes several steps does (`agents.engine.cancel`).
_RENEW = """
    WITH mine AS (
        SELECT s.id FROM agents_step AS s JOIN unnest(%s::uuid[], %s::int[]) AS held(id, attempt)
            ON s.id = held.id AND s.attempt = held.attempt AND s.state = 'running'
         ORDER BY s.id FOR UPDATE OF s
    )
    UPDATE agents_step AS s SET lease_until = clock_timestamp() + make_interval(secs => %s)
      FROM mine WHERE s.id = mine.id
    RETURNING s.id, s.attempt, s.cancel_requested
"""

_CANCELLED = "SELECT id, attempt FROM agents_step WHERE id = ANY(%s) AND state = 'running' AND cancel_requested"


@dataclass(slots=True)
class Held:
    """One held step. It must end when a person cancelled it or when the lease is lost.

    handed_back: its process ends in order, and the step did nothing wrong; renewed_at: a `time.monotonic()` reading from before the lease was asked for.
    """

    step_id: UUID
    attempt: int
    renewed_at: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    taken: bool = False
    handed_back: bool = False

    @property
    def lost(self) -> bool:
        """The database says so, or nobody could ask it for a whole lease: the clock alone decides then, since the
        thread that asks may hang with the database, or this process may have been stopped. Once lost it stays lost,
        also where the database then renews it: what was stopped for it must not count as the step's own end."""
        self.taken = self.taken or time.monotonic() - self.renewed_at > settings.STEP_LEASE_S
        return self.taken

    def stop_requested(self) -> bool:
        return self.cancelled or self.lost


class Leases:
    """The steps that this process holds. The thread starts with the first one (after any fork)."""

    def __init__(self) -> None:
        self._held: dict[tuple[UUID, int], Held] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._every_beat: list[Callable[[], None]] = []

    def on_beat(self, callback: Callable[[], None]) -> None:
        """Calls `callback` with each beat, on the thread's own database connection; starts the thread."""
        with self._lock:
            self._every_beat.append(callback)
            self._start()

    @contextmanager
    def hold(self, step_id: UUID, attempt: int, *, since: float | None = None) -> Iterator[Held]:
        """Renews the lease until the end of the block. since: a `time.monotonic()` reading from before the claim."""
        held = Held(step_id, attempt) if since is None else Held(step_id, attempt, since)
        with self._lock:
            self._held[step_id, attempt] = held
            self._start()
        try:
            yield held
        finally:
            with self._lock:
                self._held.pop((step_id, attempt), None)

    def give_up(self) -> int:
        """Lets go of every held step: each must end, and is then settled as lost; how many."""
        with self._lock:
            held = list(self._held.values())
        for one in held:
            one.taken = one.handed_back = True
        return len(held)

    def beat(self) -> None:
        """Renews what is held; marks what was lost or cancelled."""
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        now = time.monotonic()
        with connection.cursor() as cursor:
            ids, attempts = zip(*held, strict=True)
            cursor.execute(_RENEW, [list(ids), list(attempts), settings.STEP_LEASE_S])
            rows = {(row[0], row[1]): row[2] for row in cursor.fetchall()}
        for key, one in held.items():
            if key in rows:
                one.renewed_at, one.cancelled = now, one.cancelled or rows[key]
            else:
                one.taken = True

    def look(self) -> None:
        """Marks what was cancelled; renews nothing."""
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        with connection.cursor() as cursor:
            cursor.execute(_CANCELLED, [[step_id for step_id, _ in held]])
            for step_id, attempt in cursor.fetchall():
                if (step_id, attempt) in held:
                    held[step_id, attempt].cancelled = True

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        beaten = time.monotonic()
        while self._needed():
            every_s = min(BEAT_S, settings.STEP_LEASE_S / 3)
            time.sleep(min(LOOK_S, every_s))
            try:
                if time.monotonic() - beaten < every_s - LOOK_S / 2:
                    self.look()
                    continue
                beaten = time.monotonic()
                self.beat()
                for callback in self._every_beat:
                    callback()
            except Error as error:
                log.warning("lease.beat_failed", extra={"error": type(error).__name__})
                connection.close()
            except Exception:  # a callback's bug must not cost every lease
                log.exception("lease.beat_crashed")

    def _needed(self) -> bool:
        """False, and the thread ends with its connection: nothing is held and nobody wants its beats."""
        with self._lock:
            if self._held or self._every_beat:
                return True
            self._thread = None
        connection.close()
        return False


leases = Leases()
