"""How long records stay in the database: parts by time, archives, and legal holds.

A part is a month of records. It is archived whole, oldest first: its records and payloads are written to a file, the log
records that (`log.archived`, with the file's digest), and the part is dropped, in one transaction. Leaf hashes stay for
ever, so every root and every proof holds; what later records still need (keys, statements about the log) is kept.
"""

import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import OperationalError, connection, transaction
from psycopg import sql
from psycopg.errors import LockNotAvailable

from audit.actor import Actor, Target
from audit.append import record
from audit.entries import entry_text
from audit.errors import ArchiveRefused
from audit.kinds import Event
from audit.merkle import leaf_hash
from audit.schema import MONTHS_AHEAD
from audit.signing import write_durably

_PARTS = """
SELECT p.name, p.lower::text, p.upper::text, p.archived_at, audit_uuid_at(%s)::text >= p.upper::text FROM audit_partition p
  ORDER BY p.upper NULLS LAST
"""
_LINES = """
SELECT l.index, e.id::text, l.hash, e.body, e.kid, e.signature, e.prev::text,
       (e.event ~ '^(key|log)[.]' OR e.event = 'payload.erased') AND e.event <> 'log.heartbeat',
       (SELECT json_object_agg(p.slot, json_build_array(encode(p.salt, 'hex'), p.value))
          FROM audit_payload p WHERE p.event_id = e.id)
  FROM {} e LEFT JOIN audit_leaf l ON l.event_id = e.id ORDER BY l.index
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """lower, upper: ids from `lower` on and below `upper`, None without a limit; over: is its month over?"""

    name: str
    lower: str | None
    upper: str | None
    archived_at: datetime | None
    over: bool | None

    @property
    def until(self) -> datetime | None:
        """The moment at which it ends."""
        if self.upper is None:
            return None
        return datetime.fromtimestamp(int(self.upper.replace("-", "")[:12], 16) / 1000, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """records: how many are in it; taken: how many of them left the database; sha256: of the file."""

    part: str
    path: Path
    records: int
    taken: int
    sha256: str


def parts(now: datetime) -> list[Part]:
    """All parts of the log, in the order of time; the one for ids that fit nowhere else is last."""
    with connection.cursor() as cursor:
        cursor.execute(_PARTS, (now,))
        return [
            Part(name=name, lower=lower, upper=upper, archived_at=at, over=over)
            for name, lower, upper, at, over in cursor.fetchall()
        ]


def add_parts(now: datetime) -> int:
    """Makes the parts of the months that come, where they are missing; gives how many. It waits for nobody: where a long
    query is in its way, the next call makes them."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '2s'")
            cursor.execute("SELECT audit_partition_ahead(%s, %s)", (now, MONTHS_AHEAD))
            return int(cursor.fetchone()[0])
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable):
            return 0
        raise


def archive(name: str, folder: Path, *, actor: Actor, now: datetime) -> Archive:
    """Writes the part `name` into `folder`, records that, and drops it. Run it as the role that migrated.

    Raises:
        ArchiveRefused: the part is not the oldest, is still written, is held, has records that are not under a signed
            checkpoint, or differs from the log; or this role may not. Nothing was dropped.
    """
    found = {part.name: part for part in parts(now)}.get(name)
    if found is None or found.archived_at is not None or not found.over:
        raise ArchiveRefused(f"There is no part {name} whose month is over; `audit_retention list` shows the parts.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with transaction.atomic():
            written = _write(found, folder)
            context = {
                "part": name,
                "lower": found.lower,
                "upper": found.upper,
                "records": written.taken,
                "written": written.records,
                "sha256": written.sha256,
            }
            identifier = record(
                Event.LOG_ARCHIVED, actor=actor, target=Target(type="log_part", id=name), context=context
            )
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '10s'")
                cursor.execute("SELECT audit_archive(%s, %s)", (name, identifier))
    except DatabaseError as error:
        raise ArchiveRefused(str(error).splitlines()[0]) from None
    return written


def _write(part: Part, folder: Path) -> Archive:
    """One JSON line a record. Every record is compared with its leaf before it is written."""
    path, partial = folder / f"audit-{part.name}.jsonl.gz", folder / f".audit-{part.name}.partial"
    records = taken = 0
    with partial.open("wb") as file:
        with gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
            for index, identifier, stored, body, kid, signature, prev, kept, payloads in _rows(part.name):
                if index is None or leaf_hash(entry_text(body, kid, signature, prev).encode()) != bytes(stored):
                    raise ArchiveRefused(
                        f"The record {identifier} is not the one that the log holds: run audit_verify."
                    )
                line = {
                    "index": index,
                    "id": identifier,
                    "body": body,
                    "kid": kid,
                    "signature": signature.hex(),
                    "prev": prev,
                    "payloads": payloads or {},
                }
                packed.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
                records += 1
                taken += not kept
        file.flush()
        os.fsync(file.fileno())
    digest = _sha256(partial)
    if path.exists() and _sha256(path) != digest:
        path.replace(folder / f"audit-{part.name}.{_sha256(path)[:12]}.jsonl.gz")  # of an attempt that was undone
    partial.replace(path)
    write_durably(path.with_suffix(".gz.sha256"), f"{digest}  {path.name}\n")
    return Archive(part=part.name, path=path, records=records, taken=taken, sha256=digest)


def _rows(name: str) -> Iterator[tuple[Any, ...]]:
    table = sql.Identifier(f"audit_event_{name}")
    with connection.connection.cursor("audit_archive") as cursor:  # on the server, so that memory stays small
        cursor.itersize = 2_000
        cursor.execute(sql.SQL(_LINES).format(table))
        yield from cursor


def check_archive(path: Path) -> tuple[int, list[str]]:
    """(records in the file, what is wrong with it): against its digest in the log and the leaf hashes that stayed."""
    wrong: list[str] = []
    digest, records = _sha256(path), 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM (SELECT event, body FROM audit_event UNION ALL SELECT event, body FROM audit_kept) r "
            "WHERE r.event = %s AND r.body::jsonb #>> '{context,sha256}' = %s)",
            (Event.LOG_ARCHIVED, digest),
        )
        if not cursor.fetchone()[0]:
            wrong.append(f"No record of the log says that {path.name} with SHA-256 {digest} was archived.")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for text in file:
                line = json.loads(text)
                entry = entry_text(line["body"], line["kid"], bytes.fromhex(line["signature"]), line["prev"])
                cursor.execute("SELECT hash FROM audit_leaf WHERE index = %s", (line["index"],))
                row = cursor.fetchone()
                if row is None or bytes(row[0]) != leaf_hash(entry.encode()):
                    wrong.append(f"The record {line['id']} at {line['index']} is not the one that the log holds.")
                records += 1
    return records, wrong


def place_hold(lower: datetime, upper: datetime, *, reason: str, actor: Actor) -> UUID:
    """Nothing recorded from `lower` on and before `upper` is archived or erased until the hold is released. Call inside
    `atomic()`; gives the id of the hold, which is that of its record."""
    identifier = record(
        Event.LOG_HOLD_PLACED,
        actor=actor,
        target=Target(type="log", id="records"),
        context={"from": lower.isoformat(), "until": upper.isoformat()},
        payload={"reason": reason},
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_place_hold(%s)", (identifier,))
    return identifier


def release_hold(hold: UUID, *, reason: str, actor: Actor) -> UUID:
    """Ends a hold. Call inside `atomic()`. Raises ArchiveRefused where there is none."""
    identifier = record(
        Event.LOG_HOLD_RELEASED, actor=actor, target=Target(type="hold", id=str(hold)), payload={"reason": reason}
    )
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT audit_release_hold(%s)", (identifier,))
    except DatabaseError as error:
        raise ArchiveRefused(str(error).splitlines()[0]) from None
    return identifier


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
