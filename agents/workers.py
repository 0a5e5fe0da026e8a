"""The registry of worker processes: who consumes what, and when it was last seen."""

import os
import socket
import time
from dataclasses import dataclass

from django.conf import settings
from django.utils import timezone

from agents.models import WorkerProcess

SEEN_EVERY_S = 5.0


@dataclass(slots=True)
class Registration:
    """This process's own row. `beat()` is called often and writes seldom."""

    name: str
    written_at: float = 0.0

    def enter(self) -> None:
        """Writes the row as started."""
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
                "started_at": now,
                "seen_at": now,
                "stopped_at": None,
            },
        )
        self.written_at = time.monotonic()

    def beat(self) -> None:
        """Says that the process lives; writes the row anew where it could not be written at the start."""
        if self.written_at and time.monotonic() - self.written_at < SEEN_EVERY_S:
            return
        mine = WorkerProcess.objects.filter(name=self.name, pid=os.getpid())
        if not self.written_at or not mine.update(seen_at=timezone.now()):
            self.enter()
        self.written_at = time.monotonic()

    def leave(self) -> None:
        """Writes the row as stopped in order."""
        WorkerProcess.objects.filter(name=self.name, pid=os.getpid()).update(stopped_at=timezone.now())
