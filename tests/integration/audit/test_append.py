"""Writing: in the caller's transaction or not at all."""

import os
import threading
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction

from audit import append
from audit.actor import Actor, Target
from audit.enrolment import process_key
from audit.errors import InvalidRecord, NotWritten, OutsideTransaction
from audit.models import Record
from audit.schema import TABLES
from tests.integration.audit.conftest import Log, query, write_one


def test_a_record_needs_a_transaction(log: Log):
    with pytest.raises(OutsideTransaction):
        write_one()
    assert not Record.objects.exists()


def test_a_record_stands_with_its_transaction(log: Log):
    (identifier,) = log.write()
    record = Record.objects.get(pk=identifier)
    assert (record.event, record.actor_type, record.actor_id) == ("job.submitted", "user", "7")
    assert (record.target_type, record.target_id, record.outcome) == ("job", "job-0", "ok")
    assert record.payloads.get().value == '{"argv":["true","0"],"ratio":0.5}'


def test_a_rolled_back_transaction_leaves_no_record(log: Log):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        write_one()
        raise ZeroDivisionError
    assert query("SELECT count(*) FROM audit_event") == [(0,)]
    assert query("SELECT count(*) FROM audit_pending") == [(0,)]


def test_the_key_is_enrolled_again_after_its_first_transaction_was_rolled_back(log: Log):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        write_one()
        raise ZeroDivisionError
    log.write(2)
    log.settle()
    assert query("SELECT count(*) FROM audit_event WHERE event = 'key.add'") == [(1,)]
    assert log.report().findings == []


def test_the_key_is_enrolled_again_after_its_savepoint_was_rolled_back(log: Log):
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            write_one("lost")
            raise ZeroDivisionError
        write_one("kept")
    log.settle()
    assert log.report().findings == []
    assert not Record.objects.filter(target_id="job-lost").exists()


def test_the_key_is_enrolled_once_for_a_transaction_and_never_after(log: Log):
    with transaction.atomic():
        write_one()
        write_one()
    log.write(3)
    assert query("SELECT count(*) FROM audit_event WHERE event = 'key.add'") == [(1,)]


def test_a_forked_process_writes_with_a_key_of_its_own(log: Log):
    parent = process_key().kid
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, process_key().kid.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        assert file.read() not in {"", parent}
    assert os.waitpid(child, 0)[1] == 0
    assert process_key().kid == parent


@pytest.mark.parametrize(
    "changes",
    [
        {"context": {"ratio": 0.5}},
        {"context": {"count": 2**53}},
        {"context": {"text": "nul\0"}},
        {"context": {"text": "\ud800"}},
        {"context": {"text": "x" * append.BODY_MAX_BYTES}},
        {"payload": {"Slot": 1}},
        {"payload": {"slot": "\ud800"}},
        {"payload": {"slot": float("nan")}},
        {"outcome": "Two words"},
        {"target": Target(type="job", id="nul\0")},
    ],
)
def test_what_has_no_single_form_is_refused_and_the_transaction_goes_on(log: Log, changes):
    with transaction.atomic():
        with pytest.raises(InvalidRecord):
            write_one(**changes)
        write_one("after")
    assert Record.objects.filter(target_id="job-after").exists()


def test_an_event_outside_the_vocabulary_is_refused(log: Log):
    with transaction.atomic(), pytest.raises(InvalidRecord):
        append.record("job.submitted", actor=Actor.user(1), target=Target(type="job", id="1"))  # type: ignore[arg-type]


def test_payloads_keep_every_character_that_json_has(log: Log):
    value = {"text": 'nul\0 quote" back\\ \u2028 \U0001f600', "numbers": [1e21, -0.0, 5e-324]}
    log.write(payload={"output": value})
    log.settle()
    assert log.report().findings == []


def test_an_id_in_the_facts_is_written_as_text(log: Log):
    identifier = UUID("01920000-0000-7000-8000-000000000000")
    (written,) = log.write(context={"job": identifier})
    assert str(identifier) in Record.objects.get(pk=written).body


def test_the_triggers_refuse_even_a_superuser_and_even_a_replica(log: Log):
    log.write(2)
    log.settle()
    (identifier,) = log.write(1)
    query("INSERT INTO audit_hold VALUES (%s, now(), 'infinity')", identifier)
    for table in TABLES:
        column = query(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attgenerated = '' "
            "AND attidentity = '' AND attname <> 'released' ORDER BY attnum DESC LIMIT 1",
            table,
        )[0][0]
        for statement in (
            f"UPDATE {table} SET {column} = {column}",
            f"DELETE FROM {table}",
            f"TRUNCATE {table} CASCADE",
        ):
            for role in ("origin", "replica"):
                try:
                    with transaction.atomic():
                        query(f"SET LOCAL session_replication_role = {role}")
                        query(statement)
                except DatabaseError:
                    continue
                pytest.fail(f"{statement} is not refused as {role}")


def test_where_the_log_cannot_be_written_the_change_does_not_happen(log: Log, django_user_model):
    query("ALTER TABLE audit_event ADD CONSTRAINT disk_is_full CHECK (false) NOT VALID")
    with pytest.raises(DatabaseError), transaction.atomic():
        django_user_model.objects.create_user("newcomer")
        write_one()
    assert not django_user_model.objects.filter(username="newcomer").exists()


def test_a_record_that_a_rule_swallows_is_noticed(log: Log):
    query("CREATE RULE swallow AS ON INSERT TO audit_event DO INSTEAD NOTHING")
    with pytest.raises(NotWritten), transaction.atomic():
        write_one()


def test_writers_that_commit_roll_back_and_race_lose_nothing(log: Log):
    """Six threads write at once, a third of them roll back, and the log is sequenced all the while."""
    kept: list[UUID] = []
    lost: list[UUID] = []
    lock, done = threading.Lock(), threading.Event()
    errors: list[BaseException] = []

    def write(worker: int) -> None:
        try:
            for number in range(40):
                name = f"{worker}-{number}"
                try:
                    with transaction.atomic():
                        identifier = write_one(name)
                        second = write_one(f"{name}-b")
                        if (worker + number) % 3 == 0:
                            raise ZeroDivisionError
                except ZeroDivisionError:
                    with lock:
                        lost.extend([identifier, second])
                else:
                    with lock:
                        kept.extend([identifier, second])
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    def settle() -> None:
        try:
            while not done.is_set():
                log.settle()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    sequencing = threading.Thread(target=settle)
    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(6)]
    for thread in (sequencing, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    sequencing.join()
    assert errors == []
    log.settle()
    sequenced = {row[0] for row in query("SELECT event_id FROM audit_leaf")}
    assert set(kept) <= sequenced
    assert not set(lost) & sequenced
    assert query("SELECT count(*) FROM audit_pending") == [(0,)]
    assert log.report().findings == []
