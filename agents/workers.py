"""The registry of worker processes: who consumes what, what it does now, and what it is told to do."""

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from agents.engine import quarantine
from agents.errors import InvalidInput
from agents.models import Step, WorkerProcess
from agents.states import StepState
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

SEEN_EVERY_S = 2.0
SEEN_WITHIN = timedelta(seconds=30)  # without a sign of life for longer: silent
FORGET_AFTER = timedelta(hours=1)

_BEAT = """
    UPDATE agents_workerprocess
       SET seen_at = %(now)s, busy = %(busy)s, rss_bytes = %(rss)s, draining = %(draining)s,
           consumed_at = %(consumed)s, stopped_at = NULL
     WHERE name = %(name)s AND pid = %(pid)s AND started_at = %(started)s
    RETURNING told
"""


class Activity:
    """How many messages this process handles now, and when it last took one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.busy = 0
        self.consumed_at: datetime | None = None

    def begin(self) -> None:
        with self._lock:
            self.busy += 1
            self.consumed_at = timezone.now()

    def end(self) -> None:
        with self._lock:
            self.busy -= 1


activity = Activity()


@dataclass(slots=True)
class Registration:
    """This process's own row. `beat()` is called often and writes seldom.

    born: a moment before the process took its first message. on_told: called with each beat that finds an order.
    """

    name: str
    born: datetime = field(default_factory=timezone.now)
    draining: Callable[[], bool] = lambda: False
    on_told: Callable[[str], None] = lambda _: None
    written_at: float = 0.0

    def enter(self) -> None:
        """Writes the row as started. What a process of the same name was busy with before died with it."""
        quarantine.reap(self.name, before=self.born)
        group = os.environ.get("COUNTERSIGN_WORKER_GROUP", "")
        known = settings.WORKER_GROUPS.get(group, {"queues": [], "threads": 1})
        now = timezone.now()
        WorkerProcess.objects.update_or_create(
            name=self.name,
            defaults={
                "group": group,
                "queues": known["queues"],
                "threads": int(str(known["threads"])),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "version": settings.VERSION,
                "busy": activity.busy,
                "rss_bytes": rss_bytes(),
                "draining": self.draining(),
                "told": "",
                "told_at": None,
                "told_why": "",
                "consumed_at": activity.consumed_at,
                "started_at": self.born,
                "seen_at": now,
                "stopped_at": None,
            },
        )
        self.written_at = time.monotonic()

    def beat(self) -> None:
        """Says that the process lives, and hears what it is told; writes the row anew where it could not be written at
        the start."""
        if self.written_at and time.monotonic() - self.written_at < SEEN_EVERY_S:
            return
        told = self._renew() if self.written_at else None
        if told is None:
            self.enter()
        self.written_at = time.monotonic()
        if told:
            self.on_told(told)

    def leave(self) -> None:
        """Writes the row as stopped in order."""
        mine = WorkerProcess.objects.filter(name=self.name, pid=os.getpid(), started_at=self.born)
        mine.update(stopped_at=timezone.now(), busy=0)

    def _renew(self) -> str | None:
        """What it is told ("": nothing); None: the row is gone or another's."""
        with connection.cursor() as cursor:
            cursor.execute(
                _BEAT,
                {
                    "now": timezone.now(),
                    "busy": max(0, activity.busy),
                    "rss": rss_bytes(),
                    "draining": self.draining(),
                    "consumed": activity.consumed_at,
                    "name": self.name,
                    "pid": os.getpid(),
                    "started": self.born,
                },
            )
            row = cursor.fetchone()
        return None if row is None else str(row[0])


def rss_bytes() -> int:
    """This process's resident memory; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def state_of(worker: WorkerProcess, now: datetime) -> str:
    """`stopped` in order, `silent` for 30 s, `restarting` (told to), `draining`, or `healthy`."""
    if worker.stopped_at is not None:
        return "stopped"
    if now - worker.seen_at >= SEEN_WITHIN:
        return "silent"
    if worker.told == WorkerProcess.Told.RESTART:
        return "restarting"
    return "draining" if worker.draining or worker.told else "healthy"


def living(now: datetime) -> QuerySet[WorkerProcess]:
    """Rows of processes that gave a sign of life of late and have not stopped."""
    return WorkerProcess.objects.filter(seen_at__gt=now - SEEN_WITHIN, stopped_at__isnull=True)


def held_by(names: Sequence[str]) -> dict[str, list[Step]]:
    """The running steps of each worker, oldest first."""
    held: dict[str, list[Step]] = {name: [] for name in names}
    running = Step.objects.filter(state=StepState.RUNNING, claimed_by__in=names).order_by("started_at")
    for step in running.only("id", "job_id", "key", "tool", "claimed_by", "started_at", "attempt"):
        held[step.claimed_by].append(step)
    return held


@transaction.atomic
def tell(names: Sequence[str], told: str, *, why: str, by: Actor, now: datetime) -> list[str]:
    """Orders living workers, which obey with their next heartbeat; gives those that had no order yet.

    Raises:
        InvalidInput: a name is no living worker's.
    """
    rows = {row.name: row for row in living(now).select_for_update().filter(name__in=names).order_by("name")}
    for name in names:
        if name not in rows:
            raise InvalidInput(f"There is no living worker {name}.", field="name")
    fresh = [name for name, row in rows.items() if row.told != told]
    WorkerProcess.objects.filter(name__in=fresh).update(told=told, told_at=now, told_why=why[:200])
    for name in fresh:
        record(
            Event.WORKER_TOLD,
            actor=by,
            target=Target(type="worker", id=name),
            outcome=told,
            context={"pid": rows[name].pid, "queues": rows[name].queues},
            payload={"why": why},
        )
    return fresh


def forget_stale(now: datetime) -> int:
    """Removes rows of processes that ended or fell silent an hour ago."""
    gone = WorkerProcess.objects.filter(Q(stopped_at__lt=now - FORGET_AFTER) | Q(seen_at__lt=now - FORGET_AFTER))
    return gone.delete()[0]
