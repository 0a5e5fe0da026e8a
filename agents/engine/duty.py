"""What one process at a time does: a lease in a row, with a fence. Unlike a lock of a session, a process that is
stopped does not keep it."""

import os
import secrets
import socket
from datetime import datetime, timedelta

from django.db import connection

from agents.models import Duty as DutyRow

LEASE_S = 3.0  # also how long nobody sweeps after the one on duty was killed
STOPPED_FOR_MS = 10_000  # a process that was stopped in mid-transaction loses its row locks after this

_TAKE = """
    INSERT INTO agents_duty AS d (name, holder, fence, until)
    VALUES (%(name)s, %(holder)s, 1, clock_timestamp() + make_interval(secs => %(lease)s))
    ON CONFLICT (name) DO UPDATE
       SET holder = excluded.holder, until = excluded.until,
           fence = d.fence + CASE WHEN d.holder = excluded.holder THEN 0 ELSE 1 END
     WHERE d.holder = excluded.holder OR d.until IS NULL OR d.until < clock_timestamp()
    RETURNING fence
"""


SILENT_AFTER = timedelta(seconds=30)


def somebody_has(name: str, now: datetime) -> bool:
    """Has anybody had the duty within the last half minute, and not given it up?"""
    return DutyRow.objects.filter(name=name, until__gt=now - SILENT_AFTER).exists()


class DutyLost(Exception):
    """Somebody else has the duty now: whoever hears this stops at once."""


class Duty:
    """One process's claim to the duty `name`."""

    def __init__(self, name: str, *, lease_s: float = LEASE_S) -> None:
        self.name = name
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._lease_s = lease_s
        self._fence: int | None = None

    def take(self) -> bool:
        """Takes or renews it; False while somebody else has it."""
        fence = self._ask()
        self._fence = fence
        return fence is not None

    def keep(self) -> None:
        """Renews it in the middle of the work.

        Raises:
            DutyLost: this process was stopped for so long that another one took over, even if that has ended since.
        """
        fence = self._ask()
        if fence is None or fence != self._fence:
            self._fence = None
            raise DutyLost(self.name)

    def leave(self) -> None:
        """Gives it up at once, in order."""
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE agents_duty SET until = NULL WHERE name = %s AND holder = %s", [self.name, self.holder]
            )
        self._fence = None

    def _ask(self) -> int | None:
        with connection.cursor() as cursor:
            cursor.execute(_TAKE, {"name": self.name, "holder": self.holder, "lease": self._lease_s})
            row = cursor.fetchone()
        return None if row is None else int(row[0])
