"""The log of the running stack: refused to the application, and named when a superuser tampers."""

import psycopg
import pytest

from audit.models import Record
from tests.stack import Stack, wait_until

TABLE = Record._meta.db_table

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("statement", ["UPDATE {} SET body = body", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_application_cannot_change_the_log(stack: Stack, statement: str):
    with psycopg.connect(stack.database_url, autocommit=True) as connection, pytest.raises(psycopg.Error):
        connection.execute(statement.format(TABLE))


def rewrite(owner: psycopg.Connection, event: object, body: str) -> None:
    """Changes one record behind the triggers' back, and puts them back as they were."""
    with owner.transaction():
        triggers = owner.execute(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal", [TABLE]
        ).fetchall()
        owner.execute(f"ALTER TABLE {TABLE} DISABLE TRIGGER ALL")
        owner.execute(f"UPDATE {TABLE} SET body = %s WHERE id = %s", [body, event])
        for (name,) in triggers:
            owner.execute(f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER {name}")


def declare(stack: Stack) -> None:
    declared = stack.manage("audit_attest")
    assert declared.returncode == 0, declared.stderr


def test_a_superuser_who_tampers_is_found_out_by_name(stack: Stack):
    wait_until(lambda: stack.manage("audit_verify").returncode == 0, timeout_s=60, why="the log is whole")
    with psycopg.connect(stack.owner_url, autocommit=True) as owner:
        row = owner.execute(
            f"SELECT id, body FROM {TABLE} WHERE event = 'step.confirmed' ORDER BY id LIMIT 1"
        ).fetchone()
        assert row is not None
        event, body = row
        rewrite(owner, event, body.replace('"outcome":"ok"', '"outcome":"no"'))
        declare(stack)  # a heartbeat may see how the triggers are now
        try:
            found = stack.manage("audit_verify", "--json")
            assert found.returncode == 2, found.stdout
            assert any(str(event) in line for line in found.stdout.splitlines()), found.stdout
        finally:
            rewrite(owner, event, body)
            declare(stack)
    wait_until(
        lambda: stack.manage("audit_verify").returncode == 0,
        timeout_s=60,
        why="the log is whole, and what was done declared",
    )
