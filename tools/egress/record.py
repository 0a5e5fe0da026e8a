"""What is kept of each connection, made or refused."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

KEPT_MAX = 200
_TEXT_MAX = 300


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True, kw_only=True, eq=False)
class Connection:
    """One try to reach a host.

    host, port: as they were asked for; address: what it was connected to, "" where nothing was; allowed, why: the
    verdict, and its reason where it was refused or failed; sent_bytes, received_bytes: towards the host and back;
    started, ended: aware UTC, ended None while it is open.
    """

    host: str
    port: int
    started: datetime
    address: str = ""
    allowed: bool = True
    why: str = ""
    sent_bytes: int = 0
    received_bytes: int = 0
    ended: datetime | None = None
    _now: Callable[[], datetime] = _now
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, *, sent: int = 0, received: int = 0) -> None:
        """Adds bytes that went through."""
        with self._lock:
            self.sent_bytes += sent
            self.received_bytes += received

    def end(self, why: str = "", *, refused: bool = False) -> None:
        """It is over; the first word counts. why: what went wrong, if something did."""
        with self._lock:
            if self.ended is None:
                self.ended = self._now()
                self.why = self.why or why[:_TEXT_MAX]
                self.allowed = self.allowed and not refused

    def as_json(self) -> dict[str, Any]:
        """For `Result.sandbox["connections"]`."""
        with self._lock:
            return {
                "host": self.host,
                "port": self.port,
                "address": self.address,
                "allowed": self.allowed,
                "why": self.why,
                "sent_bytes": self.sent_bytes,
                "received_bytes": self.received_bytes,
                "started": self.started.isoformat(),
                "ended": self.ended.isoformat() if self.ended else "",
            }


class Connections:
    """All connections of a call, in the order in which they were asked for. Safe to use from several threads.

    The first `KEPT_MAX` are kept whole; of what comes after, only the number is (`left_out`).
    """

    def __init__(self, now: Callable[[], datetime] = _now) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._kept: list[Connection] = []
        self.left_out = 0

    def begin(self, host: str, port: int) -> Connection:
        """A new entry; its maker ends it."""
        made = Connection(host=_shown(host), port=port, started=self._now(), _now=self._now)
        with self._lock:
            if len(self._kept) < KEPT_MAX:
                self._kept.append(made)
            else:
                self.left_out += 1
        return made

    def include(self, other: "Connections", since: datetime) -> None:
        """Entries of another record that were open at that time or later."""
        with other._lock:
            theirs = [entry for entry in other._kept if entry.ended is None or entry.ended >= since]
        with self._lock:
            theirs = [entry for entry in theirs if entry not in self._kept]
            room = KEPT_MAX - len(self._kept)
            self._kept += theirs[:room]
            self.left_out += max(0, len(theirs) - room)

    def end_all(self, why: str) -> None:
        """Ends what is still open."""
        with self._lock:
            kept = list(self._kept)
        for entry in kept:
            entry.end(why)

    def __len__(self) -> int:
        with self._lock:
            return len(self._kept) + self.left_out

    def as_json(self) -> list[dict[str, Any]]:
        """Every kept connection, in order; the last entry is {"left_out": n} where more came than are kept."""
        with self._lock:
            kept, left_out = list(self._kept), self.left_out
        found = [entry.as_json() for entry in kept]
        return [*found, {"left_out": left_out}] if left_out else found


def _shown(host: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in host)[:_TEXT_MAX]
