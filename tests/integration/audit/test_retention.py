"""Parts by time: archived when they may be, refused when not, and found when somebody takes them behind the log's back."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from uuid import UUID

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, transaction

from audit import erase, retention
from audit.actor import Actor
from audit.errors import ArchiveRefused
from audit.prove import check_proof, prove
from audit.signing import load_key
from tests.integration.audit.conftest import Log, query

ADMIN = Actor.user(1)


@pytest.fixture
def old(log: Log) -> list[UUID]:
    """Signed records in the first part."""
    written = log.write(4)
    log.settle()
    return written


def _later(tamper) -> None:
    """Ends the first part here and now, as if it had been made a month ago."""
    tamper(
        "ALTER TABLE audit_event DETACH PARTITION audit_event_first",
        "ALTER TABLE audit_payload DETACH PARTITION audit_payload_first",
        "UPDATE audit_partition SET upper = audit_uuid_at(clock_timestamp()) WHERE name = 'first'",
        "DO $$ DECLARE ends uuid; following uuid; BEGIN "
        "SELECT upper INTO ends FROM audit_partition WHERE name = 'first'; "
        "SELECT min(lower::text)::uuid INTO following FROM audit_partition WHERE name ~ '_'; "
        "EXECUTE format('ALTER TABLE audit_event ATTACH PARTITION audit_event_first FOR VALUES FROM (MINVALUE) TO (%L)', ends); "
        "EXECUTE format('ALTER TABLE audit_payload ATTACH PARTITION audit_payload_first FOR VALUES FROM (MINVALUE) TO (%L)', ends); "
        "PERFORM audit_add_partition('2000_01', ends, following); END $$",
        detached=True,
    )


def _codes(log: Log) -> set[str]:
    """What is found after a heartbeat, but for the traces that `_later` leaves."""
    log.sequencer.beat_when_due(float("inf"))
    log.settle()
    return {finding.code for finding in log.report().findings} - {"guards_touched"}


def _archive(tmp_path: Path) -> retention.Archive:
    return retention.archive("first", tmp_path / "archive", actor=ADMIN, now=datetime.now(UTC))


def test_an_archived_part_leaves_the_log_whole_and_its_proofs_valid(log: Log, old, tamper, tmp_path: Path):
    proof = prove(old[1])
    _later(tamper)
    log.write(2)
    log.settle()
    size = log.report().size
    done = _archive(tmp_path)
    assert _codes(log) == set()
    report = log.report()
    assert (report.archived, report.size) == (done.taken, size + 2)  # log.archived, log.heartbeat
    assert query("SELECT count(*) FROM audit_event WHERE id = %s", old[1]) == [(0,)]
    verifier = load_key(log.sequencer.signer.folder).verifier
    assert check_proof(proof.text, proof.entry, [verifier])[0] == proof.index
    assert retention.check_archive(done.path) == (done.records, [])
    log.write(2)  # the process's key was enrolled in the part that is gone
    assert _codes(log) == set()


def test_an_archive_that_was_changed_is_found(log: Log, old, tamper, tmp_path: Path):
    _later(tamper)
    done = _archive(tmp_path)
    text = gzip.decompress(done.path.read_bytes()).replace(b'\\"ok\\"', b'\\"no\\"', 1)
    done.path.write_bytes(gzip.compress(text))
    records, wrong = retention.check_archive(done.path)
    assert records == done.records
    assert len(wrong) == 2  # the file's digest, and the record
    out = StringIO()
    with pytest.raises(CommandError) as ended:
        call_command("audit_retention", "--json", "check", str(done.path), stdout=out)
    assert ended.value.returncode == 2
    assert json.loads(out.getvalue())["wrong"] == wrong


def test_a_part_that_is_still_written_or_unsigned_or_held_is_not_archived(log: Log, old, tamper, tmp_path: Path):
    with pytest.raises(ArchiveRefused, match="over"):
        _archive(tmp_path)
    log.write()  # waits for its place
    _later(tamper)
    with pytest.raises(ArchiveRefused):
        _archive(tmp_path)
    log.settle()
    now = datetime.now(UTC)
    with transaction.atomic():
        hold = retention.place_hold(now - timedelta(days=1), now + timedelta(days=1), reason="a case", actor=ADMIN)
    with pytest.raises(ArchiveRefused, match="hold"):
        _archive(tmp_path)
    assert query("SELECT count(*) FROM audit_event WHERE id = %s", old[0]) == [(1,)]
    with transaction.atomic():
        retention.release_hold(hold, reason="closed", actor=ADMIN)
    _archive(tmp_path)
    with pytest.raises(ArchiveRefused):
        _archive(tmp_path)
    assert _codes(log) == set()


def test_what_is_held_is_not_erased(log: Log, old):
    now = datetime.now(UTC)
    with transaction.atomic():
        hold = retention.place_hold(now - timedelta(days=1), now + timedelta(days=1), reason="a case", actor=ADMIN)
    with pytest.raises(DatabaseError, match="hold"), transaction.atomic():
        erase.erase(old[0], actor=ADMIN)
    with transaction.atomic():
        retention.release_hold(hold, reason="closed", actor=ADMIN)
    with transaction.atomic():
        assert erase.erase(old[0], actor=ADMIN) == ["arguments"]
    with pytest.raises(ArchiveRefused), transaction.atomic():
        retention.release_hold(hold, reason="again", actor=ADMIN)
    log.settle()
    assert log.report().findings == []


def test_a_hold_taken_away_behind_the_logs_back_is_found(log: Log, old, tamper):
    now = datetime.now(UTC)
    with transaction.atomic():
        hold = retention.place_hold(now, now + timedelta(days=1), reason="a case", actor=ADMIN)
    log.settle()
    tamper("UPDATE audit_hold SET released = record")
    report = log.report()
    assert [finding.record for finding in report.findings if finding.code == "hold_differs"] == [hold]


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE audit_event_first",
        "DROP TABLE audit_leaf",
        "DROP TABLE audit_event CASCADE",
        "ALTER TABLE audit_event DETACH PARTITION audit_event_first",
        "ALTER TABLE audit_payload DETACH PARTITION audit_payload_rest",
    ],
)
def test_even_a_superuser_is_refused_to_drop_or_detach(log: Log, old, statement):
    with pytest.raises(DatabaseError, match="append-only"):
        query(statement)
    assert log.report().findings == []


@pytest.mark.parametrize("table", ["audit_event_first", "audit_payload_first"])
@pytest.mark.parametrize("verb", ["UPDATE {0} SET {1} = {1}", "DELETE FROM {0}", "TRUNCATE {0}"])
def test_a_part_is_guarded_like_the_whole(log: Log, old, table, verb):
    column = "kid" if "event" in table else "value"
    with pytest.raises(DatabaseError), transaction.atomic():
        query(verb.format(table, column))


@pytest.mark.parametrize(
    "verb", ["DROP TABLE audit_event_first", "ALTER TABLE audit_event DETACH PARTITION audit_event_first"]
)
def test_a_part_taken_away_behind_the_logs_back_is_found(log: Log, old, verb):
    for trigger in ("audit_no_drop", "audit_no_detach"):
        query(f"ALTER EVENT TRIGGER {trigger} DISABLE")
    query(verb)
    for trigger in ("audit_no_drop", "audit_no_detach"):
        query(f"ALTER EVENT TRIGGER {trigger} ENABLE ALWAYS")
    report = log.report()
    assert report.exit_code == 2
    codes = {finding.code for finding in report.findings}
    assert {"partition_gone", "record_gone"} <= codes
    assert old[0] in {finding.record for finding in report.findings}


def test_parts_are_made_ahead_and_records_out_of_all_of_them_still_fit(log: Log):
    before = {part.name for part in retention.parts(datetime.now(UTC))}
    ahead = datetime.now(UTC) + timedelta(days=150)
    assert retention.add_parts(ahead) > 0
    assert retention.add_parts(ahead) == 0
    made = {part.name for part in retention.parts(ahead)} - before
    assert f"{ahead:%Y_%m}" in made
    assert log.report().findings == []


def test_the_command_shows_parts_and_holds(log: Log, old, tmp_path: Path):
    out = StringIO()
    call_command(
        "audit_retention", "hold", "--from", "2026-01-01", "--until", "2026-02-01", "--reason", "x", stdout=out
    )
    call_command("audit_retention", "--json", "list", stdout=(out := StringIO()))
    said = json.loads(out.getvalue())
    assert {"first", "rest"} <= {part["name"] for part in said["parts"]}
    assert said["holds"][0]["from"] == "2026-01-01T00:00:00+00:00"
    call_command("audit_retention", "archive", str(tmp_path), "--keep-days", "400", stdout=(out := StringIO()))
    assert "No part is old enough." in out.getvalue()
