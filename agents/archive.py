"""The archive of old jobs' feeds: a compressed file a day, out of the database, read from there when somebody asks.

`<archive folder>/feed-2026-01-31.jsonl.gz` holds the feeds of the jobs that ended on that day (UTC): a gzip member a
job, a line of JSON an entry: {"job", "seq", "step", "kind", "data", "at"}. `zcat` reads the file as a whole; a row of
`ArchivedLog` says where a job's member stands. Beside it `feed-2026-01-31.manifest.json` tells
{"day", "jobs", "entries", "size_bytes", "sha256"}.

A batch is written and synced before one transaction adds its rows and deletes the entries. What a run that was killed
left behind its last batch is cut off by the next one: the rows say where the file ends.

ArchiveError             (agents.errors.AgentsError)
├── ArchiveBusy          another archiver works
└── ArchiveUnreadable    a file is missing, shorter than its rows say, or not what was written
"""

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Max

from agents.errors import AgentsError
from agents.models import ArchivedLog, FeedEntry, Job
from agents.states import JOB_DONE
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

BATCH = 200
LOCK = "hashtext('countersign.archive')"
ARCHIVER = Actor.system("archive")

# Only what was written to the file: what a late worker appended meanwhile stays.
_DELETE = """
    DELETE FROM agents_feedentry AS f USING unnest(%s::uuid[], %s::int[]) AS done(job, seq)
     WHERE f.job_id = done.job AND f.seq <= done.seq
"""


class ArchiveError(AgentsError):
    code = "archive_error"


class ArchiveBusy(ArchiveError):
    code = "archive_busy"


class ArchiveUnreadable(ArchiveError):
    code = "archive_unreadable"


@dataclass(slots=True)
class Done:
    """What a run did. left: it was stopped before everything was archived."""

    jobs: int = 0
    entries: int = 0
    size_bytes: int = 0
    left: bool = False


def archive(before: datetime, *, now: datetime, stop: Callable[[], bool] = lambda: False, batch: int = BATCH) -> Done:
    """Moves the feeds of the jobs that ended before `before` into files, batch by batch; a batch is whole or not at all.

    stop: asked between batches.

    Raises:
        ArchiveBusy: another one works.
        ArchiveUnreadable: a day's file is shorter than its rows say; nothing of that day is touched.
        OSError: the folder cannot be written.
    """
    done = Done()
    touched: set[date] = set()
    with _alone():
        try:
            while ended := _next(before, batch):
                if stop():
                    done.left = True
                    break
                day = ended[0][1]
                touched.add(day)
                _archive(day, [job for job, its_day in ended if its_day == day], done, now=now)
        finally:
            for day in sorted(touched):
                _write_manifest(day)
    return done


def read(job_id: UUID, *, after: int = 0, limit: int = 500) -> list[FeedEntry]:
    """The job's archived entries with `seq > after`, in order. Where a file cannot be read, a note stands in its place."""
    found: list[FeedEntry] = []
    for row in ArchivedLog.objects.filter(job_id=job_id, last_seq__gt=after).order_by("first_seq"):
        try:
            found += [_entry(one) for one in _member(row.day, row.offset, row.size_bytes, row.sha256)]
        except ArchiveUnreadable as error:
            text = f"The archived log cannot be read: {error.message}"
            found.append(FeedEntry(job_id=job_id, seq=row.last_seq, kind="note", data={"text": text}, at=row.at))
        found = [one for one in found if one.seq > after]
        if len(found) >= limit:
            break
    return found[:limit]


def last_seq(job_id: UUID) -> int:
    """The number of the job's last archived entry, 0 where there is none."""
    return ArchivedLog.objects.filter(job_id=job_id).aggregate(last=Max("last_seq"))["last"] or 0


def verify() -> Iterator[tuple[date, str]]:
    """(day, what is wrong) of each day's file that is not what its manifest and its rows say; nothing where all is well."""
    for day in ArchivedLog.objects.order_by("day").values_list("day", flat=True).distinct():
        try:
            manifest = json.loads(_manifest_path(day).read_text(encoding="utf-8"))
            found = _sha256(day, _end(day))
        except (OSError, ValueError, ArchiveUnreadable) as error:
            yield day, error.message if isinstance(error, ArchiveUnreadable) else str(error)
            continue
        if manifest.get("sha256") != found:
            yield day, "its SHA-256 is not the manifest's"


def path_of(day: date) -> Path:
    """The day's file."""
    return Path(settings.ARCHIVE_DIR) / f"feed-{day.isoformat()}.jsonl.gz"


def _manifest_path(day: date) -> Path:
    return Path(settings.ARCHIVE_DIR) / f"feed-{day.isoformat()}.manifest.json"


@contextmanager
def _alone() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_try_advisory_lock({LOCK})")
        if not cursor.fetchone()[0]:
            raise ArchiveBusy("Another archiver works.")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_advisory_unlock({LOCK})")


def _next(before: datetime, batch: int) -> list[tuple[UUID, date]]:
    """The jobs that ended longest ago and are not archived, with the days on which they ended."""
    ended = Job.objects.filter(finished_at__isnull=False, finished_at__lt=before, log_archived_at__isnull=True)
    rows = ended.order_by("finished_at").values_list("pk", "finished_at")[:batch]
    return [(pk, at.astimezone(UTC).date()) for pk, at in rows if at is not None]


def _archive(day: date, jobs: Sequence[UUID], done: Done, *, now: datetime) -> None:
    with _opened(day) as file:
        rows = [_write(file, day, job, entries, now=now) for job, entries in _feeds(jobs)]
        file.flush()
        os.fsync(file.fileno())
    with transaction.atomic():
        # one that a person has just retried keeps its feed; its bytes in the file belong to nobody
        still = Job.objects.select_for_update(of=("self",)).filter(
            pk__in=jobs, state__in=JOB_DONE, log_archived_at__isnull=True
        )
        held = set(still.order_by("pk").values_list("pk", flat=True))
        kept = [row for row in rows if row.job_id in held]
        ArchivedLog.objects.bulk_create(kept)
        with connection.cursor() as cursor:
            cursor.execute(_DELETE, [[row.job_id for row in kept], [row.last_seq for row in kept]])
            done.entries += cursor.rowcount
        Job.objects.filter(pk__in=held).update(log_archived_at=now)
        if kept:
            facts = {"jobs": len(kept), "size_bytes": sum(row.size_bytes for row in kept), "sha256": _digest_of(kept)}
            record(
                Event.FEED_ARCHIVED, actor=ARCHIVER, target=Target(type="archive", id=day.isoformat()), context=facts
            )
    done.jobs += len(held)
    done.size_bytes += sum(row.size_bytes for row in kept)


def _feeds(jobs: Sequence[UUID]) -> Iterator[tuple[UUID, list[FeedEntry]]]:
    entries = FeedEntry.objects.filter(job_id__in=jobs).order_by("job_id", "seq").iterator(chunk_size=2000)
    for job, found in groupby(entries, key=lambda entry: entry.job_id):
        yield job, list(found)


def _write(file: BinaryIO, day: date, job: UUID, entries: list[FeedEntry], *, now: datetime) -> ArchivedLog:
    """Appends the job's member."""
    lines = [
        {"job": str(job), "seq": one.seq, "step": str(one.step_id) if one.step_id else None, "kind": one.kind,
         "data": one.data, "at": one.at.isoformat()}
        for one in entries
    ]  # fmt: skip
    text = "".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) + "\n" for one in lines)
    member = gzip.compress(text.encode(), mtime=0)
    offset = file.tell()
    file.write(member)
    return ArchivedLog(
        job_id=job,
        day=day,
        first_seq=entries[0].seq,
        last_seq=entries[-1].seq,
        offset=offset,
        size_bytes=len(member),
        sha256=hashlib.sha256(member).hexdigest(),
        at=now,
    )


@contextmanager
def _opened(day: date) -> Iterator[BinaryIO]:
    """The day's file at the end of its last whole batch."""
    path = path_of(day)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    end = _end(day)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        if os.fstat(descriptor).st_size < end:
            raise ArchiveUnreadable(f"{path.name} is shorter than {end} bytes.")
        file.truncate(end)
        file.seek(end)
        yield file
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _end(day: date) -> int:
    """How long the day's file is, by its rows."""
    end = ArchivedLog.objects.filter(day=day).aggregate(end=Max(F("offset") + F("size_bytes")))["end"]
    return int(end or 0)


def _write_manifest(day: date) -> None:
    rows = ArchivedLog.objects.filter(day=day)
    end = _end(day)
    manifest = {
        "day": day.isoformat(),
        "jobs": rows.values("job").distinct().count(),
        "entries": sum(last - first + 1 for first, last in rows.values_list("first_seq", "last_seq")),
        "size_bytes": end,
        "sha256": _sha256(day, end),
    }
    path = _manifest_path(day)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    partial.chmod(0o600)
    partial.rename(path)


def _sha256(day: date, size: int) -> str:
    """Of the first `size` bytes of the day's file. Raises ArchiveUnreadable."""
    digest, left = hashlib.sha256(), size
    try:
        with path_of(day).open("rb") as file:
            while left and (data := file.read(min(left, 1 << 20))):
                digest.update(data)
                left -= len(data)
    except OSError as error:
        raise ArchiveUnreadable(f"{path_of(day).name}: {error.strerror}.") from None
    if left:
        raise ArchiveUnreadable(f"{path_of(day).name} is shorter than {size} bytes.")
    return digest.hexdigest()


def _digest_of(rows: Sequence[ArchivedLog]) -> str:
    """Over the members' own digests, in the order of the file: what the audit log holds fast."""
    return hashlib.sha256("".join(row.sha256 for row in rows).encode()).hexdigest()


@lru_cache(maxsize=2)
def _member(day: date, offset: int, size_bytes: int, sha256: str) -> tuple[str, ...]:
    """A job's lines. Raises ArchiveUnreadable."""
    path = path_of(day)
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size_bytes)
    except OSError as error:
        raise ArchiveUnreadable(f"{path.name}: {error.strerror}.") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ArchiveUnreadable(f"{path.name} does not hold what was written at {offset}.")
    return tuple(gzip.decompress(data).decode().split("\n")[:-1])  # text may hold other line breaks


def _entry(text: str) -> FeedEntry:
    line = json.loads(text)
    return FeedEntry(
        job_id=UUID(line["job"]),
        seq=line["seq"],
        step_id=UUID(line["step"]) if line["step"] else None,
        kind=line["kind"],
        data=line["data"],
        at=datetime.fromisoformat(line["at"]),
    )
