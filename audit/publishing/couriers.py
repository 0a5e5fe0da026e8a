"""Bringing checkpoints to every place, beside the sequencer: a thread a place, so that none waits for another.

The log never waits for any of them. How far each has come stands in its row (`audit.models.Delivery`).
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from audit.checking.trust import configured_policy
from audit.errors import InvalidNote, NotDelivered
from audit.models import Delivery
from audit.notes import CheckpointText, text_of
from audit.publish import COSIGNED_FILE, LATEST_FILE, Publisher
from audit.publishing.place import Parcel, Place
from audit.publishing.places import configured_places
from audit.witness.collect import Collector

FIRST_S, LONGEST_S = 5.0, 300.0  # between attempts that fail, doubling

log = logging.getLogger("audit.publishing")

Work = Callable[[datetime], float]
"""One attempt; returns the seconds until the next."""


class Courier:
    """Brings checkpoints from a folder to one place."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self.folder = folder

    def attempt(self, now: datetime) -> float:
        """Brings the latest checkpoint where it is due and news. Returns the seconds until the next attempt is due."""
        name = self.place.name[:200]
        row = Delivery.objects.filter(pk=name).first() or Delivery(name=name)
        if row.delivered_at is not None and not row.failures:
            due = row.delivered_at + timedelta(seconds=self.place.every_s)
            if now < due:
                return (due - now).total_seconds()
        parcel = latest(self.folder, row, now)
        if parcel is None:
            return min(self.place.every_s, FIRST_S)
        return (
            settle(row, now, lambda: self.place.deliver(parcel), size=parcel.size, note=parcel.note)
            or self.place.every_s
        )


def settle(row: Delivery, now: datetime, deliver: Callable[[], None], *, size: int, note: str) -> float:
    """Delivers, and writes down how that went. Returns 0, or the seconds after which to try again."""
    row.tried_at = now
    try:
        deliver()
    except (NotDelivered, OSError) as error:
        row.failures += 1
        row.error = (str(error) or type(error).__name__)[:500].replace("\0", "")
        row.save()
        log.warning("checkpoint.not_delivered", extra={"place": row.name, "why": row.error, "failures": row.failures})
        return min(LONGEST_S, FIRST_S * 2.0 ** min(row.failures - 1, 10))
    row.failures, row.error, row.delivered_at, row.size, row.note = 0, "", now, size, note
    row.save()
    return 0.0


def latest(folder: Path, row: Delivery, now: datetime) -> Parcel | None:
    """The checkpoint to bring to a place that has the row's: one that witnesses cosigned where there is one. A log that
    restarted under another name begins anew."""
    for name in (COSIGNED_FILE, LATEST_FILE):
        try:
            note = (folder / name).read_text(encoding="utf-8")
            checkpoint = CheckpointText.parse(text_of(note))
        except (OSError, UnicodeDecodeError, InvalidNote):
            continue
        since = row.size if _origin(row.note) == checkpoint.origin else 0
        if checkpoint.size > since:
            return Parcel(
                origin=checkpoint.origin,
                size=checkpoint.size,
                root=checkpoint.root,
                note=note,
                folder=folder,
                since=since,
                at=now,
            )
    return None


def _origin(note: str) -> str | None:
    try:
        return CheckpointText.parse(text_of(note)).origin
    except InvalidNote:
        return None


class Couriers:
    """Everything that runs beside the sequencer."""

    def __init__(self, works: dict[str, Work]) -> None:
        self.works = works
        self._threads: list[threading.Thread] = []

    @classmethod
    def from_settings(cls, publisher: Publisher) -> "Couriers":
        """Raises NotDelivered, InvalidPolicy: a setting is malformed."""
        works: dict[str, Work] = {place.name: Courier(place, publisher.folder).attempt for place in configured_places()}
        policy = configured_policy()
        if policy is not None and any(witness.url for witness in policy.witnesses.values()):
            works["witnesses"] = Collector(policy, publisher, settings.AUDIT_WITNESS_EVERY_S).attempt
        return cls(works)

    def once(self) -> None:
        """One attempt for each, in this thread."""
        for work in self.works.values():
            work(datetime.now(UTC))

    def start(self, stop: threading.Event) -> None:
        """Works until `stop` is set."""
        for name, work in self.works.items():
            thread = threading.Thread(target=_run, args=(work, stop), name=f"courier {name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def join(self, timeout_s: float) -> None:
        """Waits for the threads to end after `stop` was set; one that hangs in the network is left behind."""
        for thread in self._threads:
            thread.join(timeout_s)


def _run(work: Work, stop: threading.Event) -> None:
    wait_s = 0.0
    while not stop.wait(wait_s):
        try:
            wait_s = max(work(datetime.now(UTC)), 0.2)
        except DatabaseError:
            wait_s = FIRST_S  # the sequencer says that the database is away
        except Exception:
            log.exception("checkpoint.courier_failed")
            wait_s = LONGEST_S
        finally:
            connection.close()
