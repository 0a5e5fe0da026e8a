"""The job's live feed: rows are the truth, Redis only wakes who reads them."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone
from redis.backoff import NoBackoff
from redis.retry import Retry

from agents import archive
from agents.connections import rest
from agents.models import FeedEntry

log = logging.getLogger(__name__)

# Output of one attempt kept in the feed; the step's result keeps its own head and tail.
LOG_LIMIT_CHARS = 256 * 1024
FLUSH_AFTER_S = 0.2
QUIET_S = 2.0

_quiet_until = 0.0  # a `time.monotonic()` reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What to append: `kind` and `data` as `FeedEntry` describes them, `step_id` where it is about a step."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    step_id: UUID | None = None


def append(job_id: UUID, entries: Sequence[Entry], *, now: datetime) -> None:
    """Appends in the caller's transaction, in order, without gaps; wakes readers after commit.

    Takes the job's row lock until commit (see `Job.feed_seq`): call it where the job is locked anyway, or in a
    transaction of its own.
    """
    if not entries:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE agents_job SET feed_seq = feed_seq + %s WHERE id = %s RETURNING feed_seq", [len(entries), job_id]
        )
        row = cursor.fetchone()
    if row is None:
        return
    first = row[0] - len(entries) + 1
    FeedEntry.objects.bulk_create(
        FeedEntry(job_id=job_id, seq=first + n, step_id=entry.step_id, kind=entry.kind, data=entry.data, at=now)
        for n, entry in enumerate(entries)
    )
    transaction.on_commit(lambda: wake(job_id, row[0]))


def entries(job_id: UUID, *, after: int = 0, limit: int = 500) -> list[FeedEntry]:
    """The entries with `seq > after`, in order, those in the archive too."""
    found = list(FeedEntry.objects.filter(job_id=job_id, seq__gt=after).order_by("seq")[:limit])
    if found and found[0].seq == after + 1:  # numbers have no gaps: the archive holds none of these
        return found
    older = archive.read(job_id, after=after, limit=limit)
    return [*older, *(one for one in found if not older or one.seq > older[-1].seq)][:limit]


def tail(job_id: UUID, *, limit: int) -> list[FeedEntry]:
    """The newest entries, in order, those in the archive too."""
    found = list(FeedEntry.objects.filter(job_id=job_id).order_by("-seq")[:limit])[::-1]
    if len(found) == limit or (found and found[0].seq == 1):
        return found
    end = found[0].seq - 1 if found else archive.last_seq(job_id)
    return [*archive.read(job_id, after=max(0, end - limit + len(found)), limit=limit - len(found)), *found]


def channel(job_id: UUID | str) -> str:
    """The Redis pub/sub channel that carries the latest `seq` as text."""
    return f"countersign:feed:{job_id}"


@lru_cache(maxsize=1)
def client() -> redis.Redis:
    """A client that never retries by itself: a replayed write would be a second write."""
    return redis.Redis.from_url(
        settings.REDIS_URL, retry=Retry(NoBackoff(), 0), socket_timeout=2, socket_connect_timeout=1
    )


def wake(job_id: UUID, seq: int) -> None:
    """Tells readers that there is more. Losing it costs them a poll interval, nothing else.

    While Redis does not answer it is asked once in `QUIET_S` only, so that a step does not wait for it at each line.
    """
    global _quiet_until
    if time.monotonic() < _quiet_until:
        return
    try:
        client().publish(channel(job_id), str(seq))
    except redis.RedisError:
        _quiet_until = time.monotonic() + QUIET_S
        log.debug("feed.wake_failed", extra={"job": str(job_id)})


def wake_all(latest: Mapping[UUID, int]) -> None:
    """The same for many jobs at once."""
    global _quiet_until
    if time.monotonic() < _quiet_until:
        return
    try:
        with client().pipeline(transaction=False) as pipe:
            for job_id, seq in latest.items():
                pipe.publish(channel(job_id), str(seq))
            pipe.execute()
    except redis.RedisError:
        _quiet_until = time.monotonic() + QUIET_S
        log.debug("feed.wake_failed", extra={"jobs": len(latest)})


class LogSink:
    """Collects a step's output and appends it to the feed a few times a second.

    Call it with (stream, text); call `tick()` now and then, also while nothing comes, and `flush()` at the end. Beyond
    `LOG_LIMIT_CHARS` it appends one note and drops the rest: the result's own head and tail remain. While the database
    is away it keeps what it has for the next try.
    """

    def __init__(self, job_id: UUID, step_id: UUID, attempt: int) -> None:
        self._job_id, self._step_id, self._attempt = job_id, step_id, attempt
        self._pending: list[tuple[str, str]] = []
        self._flushed_at = time.monotonic()
        self._kept = 0
        self._full = False
        self._thread = threading.get_ident()

    def __call__(self, stream: str, text: str) -> None:
        if not text or self._full:
            return
        self._kept += len(text)
        if self._kept > LOG_LIMIT_CHARS:
            self._full = True
            stream, text = "note", f"Output beyond {LOG_LIMIT_CHARS // 1024} KiB is not shown live."
        if self._pending and self._pending[-1][0] == stream and stream != "note":
            self._pending[-1] = (stream, self._pending[-1][1] + text)
        else:
            self._pending.append((stream, text))
        if self._due():
            self.flush()

    def tick(self) -> None:
        """Appends what has waited for long enough; does nothing in another thread than the step's."""
        if self._pending and threading.get_ident() == self._thread and self._due():
            self.flush()

    def _due(self) -> bool:
        return time.monotonic() - self._flushed_at >= FLUSH_AFTER_S

    def flush(self) -> None:
        self._flushed_at = time.monotonic()
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        try:
            with transaction.atomic():
                append(self._job_id, [self._entry(stream, text) for stream, text in pending], now=timezone.now())
            rest()
        except (OperationalError, InterfaceError) as error:
            # no reason to end the command whose output this is
            self._pending = [*pending, *self._pending]
            log.warning("feed.flush_failed", extra={"error": type(error).__name__})
            connection.close()
            self._flushed_at += QUIET_S

    def _entry(self, stream: str, text: str) -> Entry:
        if stream in {"note", "token"}:
            return Entry(kind=stream, data={"text": text, "attempt": self._attempt}, step_id=self._step_id)
        return Entry(kind="log", data={"stream": stream, "text": text, "attempt": self._attempt}, step_id=self._step_id)
