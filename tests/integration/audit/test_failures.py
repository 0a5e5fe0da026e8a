"""Where the log cannot be written nothing happens; where it is not signed nothing is lost; and many writers at once."""

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from django.conf import settings
from django.db import connection, connections, transaction

from audit import sequence
from audit.actor import Target
from audit.errors import KeyMissing, LogUnwritable, SignerRefused
from audit.models import Record
from audit.sequencer import Sequencer
from audit.status import status
from tests.integration.audit.conftest import Log, query, write_one
from tests.integration.audit.test_grants import APP, app_role, as_app  # noqa: F401  fixtures

# no action without its record


def _change(django_user_model, name: str) -> None:
    with transaction.atomic():
        django_user_model.objects.create_user(name)
        write_one(name)


def test_a_role_that_may_not_insert_does_nothing_and_says_what_to_do(log: Log, as_app, django_user_model):  # noqa: F811
    _change(django_user_model, "before")
    _as_superuser(
        f"REVOKE INSERT ON audit_event FROM {APP}",
        f"REVOKE INSERT (id, body, signature, kid) ON audit_event FROM {APP}",
    )
    with pytest.raises(LogUnwritable, match="database_grants"):
        _change(django_user_model, "refused")
    assert not django_user_model.objects.filter(username="refused").exists()
    _as_superuser(f"GRANT INSERT (id, body, signature, kid) ON audit_event TO {APP}")
    _change(django_user_model, "after")
    log.settle()
    assert log.report().findings == []
    assert Record.objects.filter(target_id__in=["job-before", "job-after"]).count() == 2


def test_a_read_only_database_does_nothing_and_says_so(log: Log, django_user_model):
    query("SET default_transaction_read_only = on")
    with pytest.raises(LogUnwritable, match="read-only"), transaction.atomic():
        write_one()
    query("SET default_transaction_read_only = off")
    _change(django_user_model, "after")
    log.settle()
    assert log.report().findings == []


@pytest.fixture
def tiny_disk(log: Log, tmp_path: Path) -> Iterator[str]:
    """A tablespace on a disk of 2 MB."""
    ((data,),) = query("SHOW data_directory")
    folder = Path("/tmp") / f"countersign-tiny-{os.getpid()}"  # where the server's user can reach it
    folder.mkdir(mode=0o755)
    owner = Path(data).stat()
    options = f"size=2m,uid={owner.st_uid},gid={owner.st_gid},mode=700"
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True, text=True, check=False
        )
        if mounted.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
        query(f"CREATE TABLESPACE tiny LOCATION '{folder}'")
        yield "tiny"
        query("DROP TABLESPACE tiny")
    finally:
        subprocess.run(["umount", str(folder)], capture_output=True, check=False)
        folder.rmdir()


def test_a_full_disk_stops_actions_and_loses_no_record(log: Log, tiny_disk, django_user_model):
    log.write()
    query(f"ALTER TABLE audit_event_first SET TABLESPACE {tiny_disk}")
    written: list[UUID] = []
    try:
        with pytest.raises(LogUnwritable, match="make room"):
            for number in range(1_000):  # of 30 kB each, which do not compress
                written += log.write(context={"text": random.randbytes(14_000).hex()}, payload={}, target=_job(number))
        with pytest.raises(LogUnwritable), transaction.atomic():
            django_user_model.objects.create_user("refused")
            write_one(context={"text": random.randbytes(14_000).hex()})
        assert not django_user_model.objects.filter(username="refused").exists()
    finally:
        query("ALTER TABLE audit_event_first SET TABLESPACE pg_default")
    assert written
    _change(django_user_model, "after")
    log.settle()
    assert log.report().findings == []
    assert set(written) <= {row[0] for row in query("SELECT event_id FROM audit_leaf")}


def _job(number: int) -> Target:
    return Target(type="job", id=f"full-{number}")


# signing may wait


def test_without_the_checkpoint_key_work_is_recorded_and_signed_later(log: Log, settings):
    log.write(2)
    log.settle()
    settings.DEVELOPMENT = False
    key = settings.AUDIT_KEY_DIR / "checkpoint.key"
    key.rename(key.with_suffix(".away"))
    with pytest.raises(KeyMissing, match="audit_keygen"):
        Sequencer.from_settings()
    meanwhile = log.write(3)
    assert log.report(now=datetime.now(UTC) + timedelta(minutes=10)).exit_code == 3
    assert "audit_sequencer" in status(datetime.now(UTC) + timedelta(minutes=10))["message"]
    key.with_suffix(".away").rename(key)
    Sequencer.from_settings().once()
    assert {log.index_of(identifier) for identifier in meanwhile}
    assert log.report().findings == []


def test_a_signer_that_refuses_loses_nothing(log: Log):
    log.write(2)
    log.settle()
    memory = settings.AUDIT_KEY_DIR / "signer.json"
    kept = memory.read_text()
    memory.write_text("{")
    meanwhile = log.write(3)
    with pytest.raises(SignerRefused, match="state"):
        log.settle()
    memory.write_text(kept)
    log.settle()
    assert {log.index_of(identifier) for identifier in meanwhile}
    assert log.report().findings == []


# many writers


def test_twelve_writers_with_rollbacks_savepoints_pauses_and_kills(log: Log):
    """Each writer tells what it committed, and when it began and ended. Whatever was told has its place; places have no
    gap; what was committed before something else began stands before it. Two sequencers run all the while."""
    log.write()
    connection.close()
    writers = [_fork(number) for number in range(12)]
    done, errors = threading.Event(), []

    def drain() -> None:
        try:
            while not done.is_set():
                sequence.drain()
                time.sleep(random.random() / 50)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    sequencers = [threading.Thread(target=drain) for _ in range(2)]
    for thread in sequencers:
        thread.start()
    told: list[list[object]] = []
    for number, (pid, reader) in enumerate(writers):
        with os.fdopen(reader) as lines:
            for count, line in enumerate(lines):
                if line.endswith("\n"):
                    told.append(json.loads(line))
                if number % 3 == 0 and count == 4 + number:
                    os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    done.set()
    for thread in sequencers:
        thread.join()
    assert errors == []
    size = log.settle()
    places = {str(identifier): index for identifier, index in query("SELECT event_id, index FROM audit_leaf")}
    assert len(told) > 12 * 8
    assert [record for record, _, _ in told if record not in places] == []
    assert sorted(places.values()) == list(range(size))
    assert not query("SELECT FROM audit_event e LEFT JOIN audit_leaf l ON l.event_id = e.id WHERE l.index IS NULL")
    ended = sorted((at, places[record]) for record, _, at in told)
    latest, passed = -1, 0
    for began, index in sorted((began, places[record]) for record, began, _ in told):
        while passed < len(ended) and ended[passed][0] < began:
            latest = max(latest, ended[passed][1])
            passed += 1
        assert index > latest, "a record stands before one that was committed when it began"
    assert log.report().findings == []


def _fork(number: int) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    status = 1
    try:
        os.close(reader)
        _write(number, writer)
        status = 0
    finally:
        os._exit(status)


def _write(number: int, out: int) -> None:
    chance = random.Random(number)
    for count in range(20):
        name, began = f"{number}-{count}", time.monotonic()
        try:
            with transaction.atomic():
                written = [write_one(name, payload={})]
                time.sleep(chance.random() / 100)  # so that transactions overlap
                try:
                    with transaction.atomic():
                        write_one(f"{name}-undone", payload={})
                        if chance.random() < 0.3:
                            raise ZeroDivisionError
                except ZeroDivisionError:
                    pass
                written.append(write_one(f"{name}-b", payload={}))
                if chance.random() < 0.3:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            continue
        ended = time.monotonic()
        os.write(out, "".join(json.dumps([str(one), began, ended]) + "\n" for one in written).encode())


def _as_superuser(*statements: str) -> None:
    before = connections["default"].settings_dict
    url = {"host": before["HOST"], "port": before["PORT"], "dbname": before["NAME"]}
    with psycopg.connect(**url, user=_SUPERUSER["USER"], password=_SUPERUSER["PASSWORD"], autocommit=True) as superuser:
        for statement in statements:
            superuser.execute(statement)


_SUPERUSER = dict(connection.settings_dict)
