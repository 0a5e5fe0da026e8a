"""A log of its own for each test: empty tables, a fresh process key, keys and files in a temporary folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction

from audit import enrolment, schema
from audit.actor import Actor, Target
from audit.append import record
from audit.attestation import guards_digest
from audit.checking.findings import Report
from audit.kinds import Event
from audit.plpgsql import FUNCTIONS
from audit.sequencer import Sequencer
from audit.verify import verify

_pristine: list[str] = []  # the guards of the log that was made last


def empty_log() -> None:
    """Unmakes the log and makes it anew, as a superuser may; a tampered trigger or column is gone with it."""
    if _untouched():
        enrolment.forget_process_key()
        connection.close()  # and with it the chain of its session
        return
    unmake_log()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_schema())")
        (name,) = cursor.fetchone()
        schema.install(cursor.execute, schema=name, superuser=True)
    _pristine[:] = [guards_digest()]
    connection.close()
    enrolment.forget_process_key()


def _untouched() -> bool:
    """Is the log still as it was made?"""
    if not _pristine:
        return False
    try:
        rows = " UNION ALL ".join(f"SELECT 1 FROM {table}" for table in schema.TABLES if table not in _FILLED)
        made = "SELECT count(*) FROM audit_partition WHERE archived_at IS NULL"
        return not query(f"{rows} LIMIT 1") and query(made) == [(_PARTS,)] and _pristine == [guards_digest()]
    except DatabaseError:
        return False


_FILLED = ("audit_head", "audit_partition")
_PARTS = 2 + schema.MONTHS_AHEAD


def unmake_log() -> None:
    connection.close()  # and with it the chain of its session
    with transaction.atomic(), connection.cursor() as cursor:
        for name in schema.EVENT_TRIGGERS:
            cursor.execute(f"DROP EVENT TRIGGER IF EXISTS {name}")
        cursor.execute("SELECT relname FROM pg_class WHERE relname ~ '^audit_(event|payload)_' AND relkind = 'r'")
        detached = [name for (name,) in cursor.fetchall()]
        for table in (*schema.TABLES, *detached):
            cursor.execute(f"DROP TABLE IF EXISTS {table} CASCADE")
        for name, function in FUNCTIONS.items():
            cursor.execute(f"DROP FUNCTION IF EXISTS {name}{function.arguments}")


class Log:
    """What tests do with a log."""

    def __init__(self) -> None:
        self.sequencer = Sequencer.from_settings()

    def write(self, count: int = 1, **changes: Any) -> list[UUID]:
        """`count` records, each in a transaction of its own."""
        written = []
        for number in range(count):
            with transaction.atomic():
                written.append(write_one(str(number), **changes))
        return written

    def settle(self) -> int:
        """Sequences, signs and publishes what waits; returns the size."""
        return self.sequencer.once()

    def report(self, **options: Any) -> Report:
        return verify(**options)

    def index_of(self, identifier: UUID) -> int:
        return int(query("SELECT index FROM audit_leaf WHERE event_id = %s", identifier)[0][0])


def write_one(name: str = "0", **changes: Any) -> UUID:
    arguments: dict[str, Any] = {
        "actor": Actor.user(7),
        "target": Target(type="job", id=f"job-{name}"),
        "context": {"number": name},
        "payload": {"arguments": {"argv": ["true", name], "ratio": 0.5}},
    }
    return record(Event.JOB_SUBMITTED, **{**arguments, **changes})


def query(text: str, *values: object) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(text, values or None)
        return cursor.fetchall() if cursor.description else []


def parts_of(table: str) -> list[str]:
    return [
        name
        for (name,) in query(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(%s)", table
        )
    ]


@pytest.fixture
def places(settings: Any, tmp_path: Path) -> Path:
    settings.AUDIT_KEY_DIR = tmp_path / "keys"
    settings.AUDIT_PUBLISH_DIR = tmp_path / "published"
    return tmp_path


@pytest.fixture
def log(transactional_db: None, places: Path) -> Iterator[Log]:
    """An empty log. It is made anew afterwards too, so that no tampering outlives its test."""
    empty_log()
    yield Log()
    empty_log()


@pytest.fixture
def tamper(log: Log) -> Callable[..., None]:
    """Runs SQL as a superuser who switched the log's triggers off, and on again afterwards."""

    def run(*statements: str | tuple[str, list[object]], detached: bool = False) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            if detached:
                cursor.execute("ALTER EVENT TRIGGER audit_no_detach DISABLE")
            for table in (*schema.TABLES, *(part for whole in schema.PARTED for part in parts_of(whole))):
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            for statement in statements:
                text, values = (statement, None) if isinstance(statement, str) else statement
                cursor.execute(text, values)
            for trigger in schema.TRIGGERS:
                for table in (trigger.table, *parts_of(trigger.table)):
                    cursor.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger.name}")
            if detached:
                cursor.execute("ALTER EVENT TRIGGER audit_no_detach ENABLE ALWAYS")

    return run
