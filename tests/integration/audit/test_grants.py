"""The application's role: it appends and reads; whoever migrates decides who owns the log."""

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, connection, connections, transaction
from psycopg import sql

from audit import grants, schema
from audit.schema import OWNER, TABLES
from tests.integration.audit.conftest import Log, query, write_one

APP, PASSWORD = "countersign_app_of_tests", "of tests"


@pytest.fixture
def app_role(log: Log) -> Iterator[str]:
    """A role that may log in, with its grants."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [APP])
        if cursor.fetchone() is None:
            cursor.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(APP), sql.Literal(PASSWORD))
            )
    call_command("database_grants", "--app-role", APP)
    yield APP
    query(f"DROP OWNED BY {APP}")
    query(f"DROP ROLE {APP}")


@pytest.fixture
def as_app(app_role: str) -> Iterator[None]:
    """The test's connection is the application's role while this lasts."""
    connection.close()
    before = connection.settings_dict
    connection.settings_dict = {**before, "USER": APP, "PASSWORD": PASSWORD}
    connections["default"].close()
    yield
    connection.close()
    connection.settings_dict = before


def test_the_log_belongs_to_a_role_that_cannot_log_in(log: Log):
    owners = query(
        "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE oid = ANY(%s::text[]::regclass[])", list(TABLES)
    )
    assert owners == [(OWNER,)]
    assert query("SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = %s", OWNER) == [(False, False)]


def test_the_application_can_do_its_work_and_run_the_sequencer(log: Log, as_app):
    assert query("SELECT current_user") == [(APP,)]
    log.write(3)
    log.settle()
    assert log.report().findings == []


_CHANGES = (
    "UPDATE {} SET {} = {}",
    "DELETE FROM {}",
    "TRUNCATE {}",
    "ALTER TABLE {} DISABLE TRIGGER USER",
    "DROP TABLE {}",
)
_NOT_ITS_OWN = [
    "INSERT INTO audit_leaf VALUES (0, gen_random_uuid(), sha256('x'))",
    "INSERT INTO audit_pending (event_id) VALUES (gen_random_uuid())",
    "INSERT INTO audit_head VALUES (1, 9)",
    "INSERT INTO audit_event (body, signature, kid, prev) VALUES ('{}', 'x', 'y', gen_random_uuid())",
    "INSERT INTO audit_event (id, body, signature, kid, event) VALUES (gen_random_uuid(), '{}', 'x', 'y', 'z')",
    "INSERT INTO audit_event_first (id, body, signature, kid) VALUES (gen_random_uuid(), '{}', 'x', 'y')",
    "SELECT count(*) FROM audit_event_rest",
    "INSERT INTO audit_hold VALUES (gen_random_uuid(), now(), 'infinity')",
    "UPDATE audit_hold SET released = record",
    "SELECT audit_archive('first', gen_random_uuid())",
    "SELECT audit_add_partition('2030_01', NULL, NULL)",
    "INSERT INTO audit_checkpoint (size, root, note, created_at) VALUES (1, sha256('x'), '', now())",
    "SET session_replication_role = replica",
    f"SET ROLE {OWNER}",
    "INSERT INTO django_migrations (app, name, applied) VALUES ('x', 'y', now())",
]


def test_the_application_may_not_change_the_log(log: Log, as_app):
    for table in TABLES:
        column = query(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attgenerated = '' "
            "AND attidentity = '' LIMIT 1",
            table,
        )[0][0]
        for statement in _CHANGES:
            refused = _refusal(statement.format(table, column, column))
            assert isinstance(refused, psycopg.errors.InsufficientPrivilege), (table, statement)
            assert "append-only" not in str(refused)  # refused by grants, before any trigger


def test_the_application_may_not_write_what_is_not_its_to_write(log: Log, as_app):
    for statement in _NOT_ITS_OWN:
        assert "permission denied" in str(_refusal(statement)), statement


def _refusal(statement: str) -> BaseException | None:
    try:
        query(statement)
    except DatabaseError as error:
        return error.__cause__
    return None


def test_grants_may_be_applied_again(log: Log, app_role):
    call_command("database_grants", "--app-role", APP)
    with transaction.atomic():
        grants.apply(connection, APP)
        write_one()


@pytest.mark.parametrize("role", ["nobody_of_that_name", "postgres"])
def test_a_role_that_grants_cannot_bind_is_refused(log: Log, role):
    with pytest.raises(CommandError):
        call_command("database_grants", "--app-role", role)


def test_an_ordinary_role_can_migrate_and_write(log: Log, app_role):
    """As on a managed PostgreSQL without a superuser: triggers hold, ownership does not."""
    query(f"CREATE SCHEMA ordinary AUTHORIZATION {APP}")
    url = connection.get_connection_params()
    parameters = {"host": url["host"], "port": url["port"], "dbname": url["dbname"], "user": APP, "password": PASSWORD}
    with psycopg.connect(**parameters, options="-c search_path=ordinary", autocommit=True) as ordinary:
        schema.install(ordinary.execute, schema="ordinary", superuser=False)
        body = signed_row()
        ordinary.execute("INSERT INTO audit_event (id, body, signature, kid) VALUES (%s, %s, %s, %s)", body)
        assert ordinary.execute("SELECT audit_sequence(0, 10)").fetchone() == (1,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            ordinary.execute("DELETE FROM audit_event")
    query("DROP SCHEMA ordinary CASCADE")


def signed_row() -> tuple[UUID, str, bytes, str]:
    """A record as the real log wrote it."""
    with transaction.atomic():
        identifier = write_one()
    ((body, signature, kid),) = query("SELECT body, signature, kid FROM audit_event WHERE id = %s", identifier)
    return identifier, body, bytes(signature), kid
