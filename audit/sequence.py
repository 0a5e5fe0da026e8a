"""Giving committed records their place in the log.

Transactions commit in another order than their ids were drawn, so a poller of `id > last` would miss records. A trigger
therefore queues each record in its own transaction, and `drain` empties the queue: what is committed is in it, what is
rolled back never was.
"""

from collections.abc import Iterator

from django.db import OperationalError, connection
from psycopg.errors import SerializationFailure

from audit.entries import entry
from audit.errors import HeadMoved, SignerRefused
from audit.merkle import leaf_hash

BATCH = 5_000
_ENTRIES = """
SELECT l.index, l.event_id, l.hash, e.body, e.kid, e.signature, e.prev
  FROM audit_leaf l LEFT JOIN audit_event e ON e.id = l.event_id
  WHERE l.index >= %s AND l.index < %s ORDER BY l.index
"""


def state() -> tuple[int, bool]:
    """(how many records the log holds, does any wait)"""
    with connection.cursor() as cursor:
        cursor.execute("SELECT size, EXISTS (SELECT FROM audit_pending) FROM audit_head")
        size, waiting = cursor.fetchone()
        return size, waiting


def advance(size: int, *, at_most: int = BATCH) -> int:
    """Appends waiting records to a log of `size` in one transaction; returns the new size.

    Raises:
        HeadMoved: the log is not at `size` any more: another sequencer was first, nothing was written.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT audit_sequence(%s, %s)", (size, at_most))
            (new_size,) = cursor.fetchone()
            return int(new_size)
    except OperationalError as error:
        if isinstance(error.__cause__, SerializationFailure):
            raise HeadMoved(str(error).splitlines()[0]) from None
        raise


def drain() -> int:
    """Appends all that waits; returns the log's size. Safe beside other sequencers.

    What is written meanwhile is left to the next time: writers that never pause must not keep a checkpoint waiting.
    """
    size, waiting = state()
    while waiting:
        try:
            new_size = advance(size)
        except HeadMoved:
            size, waiting = state()
            continue
        # a batch that is not full took all; what is left in the queue cannot be appended: audit_verify names it
        waiting, size = new_size - size >= BATCH, new_size
    return size


def stored_hashes(start: int, stop: int) -> Iterator[bytes]:
    """Leaf hashes as the table has them; fewer where some are missing."""
    for first in range(start, stop, BATCH):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT hash FROM audit_leaf WHERE index >= %s AND index < %s ORDER BY index",
                (first, min(first + BATCH, stop)),
            )
            rows = cursor.fetchall()
        for (value,) in rows:
            yield bytes(value)


def checked_entries(start: int, stop: int) -> Iterator[tuple[bytes, bytes]]:
    """Entries made from the records themselves, with their leaf hashes.

    Raises:
        SignerRefused: a leaf is missing, its record is, or the table has another hash for it.
    """
    for first in range(start, stop, BATCH):
        last = min(first + BATCH, stop)
        with connection.cursor() as cursor:
            cursor.execute(_ENTRIES, (first, last))
            rows = cursor.fetchall()
        if [row[0] for row in rows] != list(range(first, last)):
            raise SignerRefused(f"The log has a gap between {first} and {last}.")
        for index, identifier, stored, body, kid, signature, prev in rows:
            if body is None:
                raise SignerRefused(f"The record {identifier} at {index} is gone.")
            data = entry(body, kid, signature, prev)
            value = leaf_hash(data)
            if value != bytes(stored):
                raise SignerRefused(f"The record {identifier} at {index} was changed before it was signed.")
            yield data, value


def checked_hashes(start: int, stop: int) -> Iterator[bytes]:
    """Leaf hashes computed from the records themselves; raises as `checked_entries`."""
    for _, value in checked_entries(start, stop):
        yield value
