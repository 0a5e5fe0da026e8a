"""A writer of audit records, as a program of its own: `python -m bench.parts.auditing`.

It says READY on standard output; each line on standard input, `WHAT NUMBER`, is work, answered by one line of JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import django
from django.conf import settings
from django.db import connection, transaction

CHANGE = "CREATE TABLE IF NOT EXISTS bench_change (id uuid PRIMARY KEY, body text NOT NULL)"
_INSERT = "INSERT INTO bench_change (id, body) VALUES (%s, %s)"
# The log's own table without what makes it a log: no trigger, no signature, no queue, not in parts.
SAME = "CREATE TABLE IF NOT EXISTS bench_event (LIKE audit_event INCLUDING DEFAULTS INCLUDING INDEXES)"
_SAME = """
INSERT INTO bench_event (id, body, signature, kid, created_at, event, outcome, actor_type, actor_id, actor_for,
    target_type, target_id) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_MANY = """
INSERT INTO audit_event (id, body, signature, kid)
  SELECT * FROM unnest(%s::uuid[], %s::text[], %s::bytea[], %s::text[])
"""
_BATCH = 1_000


def write_one(number: int = 0) -> Any:
    """A record as a step leaves it."""
    from audit.append import record

    return record(**_arguments(number))


def seal_one(number: int, key: Any) -> Any:
    from audit.append import seal

    return seal(**_arguments(number), key=key)


def _arguments(number: int) -> dict[str, Any]:
    from audit.actor import Actor, Target
    from audit.ids import uuid7
    from audit.kinds import Event

    return {
        "event": (Event.STEP_DECIDED, Event.STEP_DISPATCHED, Event.STEP_CONFIRMED)[number % 3],
        "actor": Actor.agent("engine", on_behalf_of=7),
        "target": Target(type="step", id=str(uuid7())),
        "context": {"job": uuid7(), "attempt": 1, "digest": "e" * 64, "policy": "default@3", "rule": "reads"},
    }


def changes(seconds: float, *, recorded: bool) -> dict[str, Any]:
    """Transactions of one row each, with its record or without."""
    from audit.ids import uuid7

    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_INSERT, (uuid7(), "x" * 200))
            if recorded:
                write_one(done)
        done += 1
    return {"done": done, "seconds": time.perf_counter() - began}


def rows(seconds: float, *, recorded: bool) -> dict[str, Any]:
    """Transactions of one record each; or of one row of the same columns and indexes, as an application without an
    audit log would write it."""
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        with transaction.atomic():
            if recorded:
                write_one(done)
            else:
                _insert_same(done)
        done += 1
    return {"done": done, "seconds": time.perf_counter() - began}


def _insert_same(number: int) -> None:
    from audit.ids import uuid7

    given, identifier, at = _arguments(number), uuid7(), datetime.now(UTC)
    actor, target = given["actor"], given["target"]
    body = {
        "v": 1,
        "id": str(identifier),
        "ts": at.isoformat(),
        "actor": {"type": actor.type, "id": actor.id, "on_behalf_of": actor.on_behalf_of},
        "event": given["event"],
        "target": {"type": target.type, "id": target.id},
        "outcome": "ok",
        "context": given["context"],
        "commit": {},
    }
    values = (identifier, json.dumps(body, default=str), bytes(64), "0" * 16, at, given["event"], "ok")
    people = (actor.type, actor.id, actor.on_behalf_of, target.type, target.id)
    with connection.cursor() as cursor:
        cursor.execute(_SAME, (*values, *people))


def fill(count: int) -> dict[str, Any]:
    """Many signed records, a thousand a transaction."""
    from audit.enrolment import process_key

    key = process_key()
    for first in range(0, count, _BATCH):
        sealed = [seal_one(number, key) for number in range(first, min(first + _BATCH, count))]
        columns = [list(column) for column in zip(*((s.id, s.body, s.signature, s.kid) for s in sealed), strict=True)]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_MANY, columns)
    return {"done": count}


def marks(seconds: float) -> dict[str, Any]:
    """Changes with records, and when each was committed."""
    committed: list[tuple[str, float]] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        with transaction.atomic():
            identifier = write_one(len(committed))
        committed.append((str(identifier), time.time()))
    return {"committed": committed}


_WHAT: dict[str, Callable[[float], dict[str, Any]]] = {
    "plain": lambda number: changes(number, recorded=False),
    "recorded": lambda number: changes(number, recorded=True),
    "same": lambda number: rows(number, recorded=False),
    "record": lambda number: rows(number, recorded=True),
    "fill": lambda number: fill(int(number)),
    "marks": marks,
}


def main() -> None:
    django.setup()
    settings.DEBUG = False  # as in production: Django keeps no copy of each statement
    with transaction.atomic():
        write_one()  # enrols the key
    print("READY", flush=True)
    for line in sys.stdin:
        what, number = line.split()
        print(json.dumps(_WHAT[what](float(number))), flush=True)


if __name__ == "__main__":
    main()
