"""Tampering, as a superuser who switches triggers off, and what the check says of it."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from uuid import UUID

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction

from audit.canonical import facts_json
from audit.checking.findings import Report, Verdict
from audit.checking.trust import Trust
from audit.enrolment import process_key
from audit.entries import entry, row_message
from audit.errors import CannotVerify, SignerRefused
from audit.merkle import leaf_hash, root
from audit.notes import CheckpointText, NoteSigner
from audit.signing import load_key
from tests.integration.audit.conftest import Log, query


def _codes(report: Report) -> set[str]:
    """What was found, but for the traces of switching triggers off and on, which `tamper` leaves every time."""
    return {finding.code for finding in report.findings} - {"guards_touched"}


def _names(report: Report, identifier: UUID, index: int | None = None) -> bool:
    """Does a finding name this record, at this place?"""
    return any(
        finding.record == identifier and (index is None or finding.index == index) for finding in report.findings
    )


def _written(log: Log, count: int = 6) -> list[UUID]:
    """A signed log with records on either side of a checkpoint."""
    first = log.write(count // 2)
    log.settle()
    second = log.write(count - count // 2)
    log.settle()
    return first + second


def _body(identifier: UUID) -> dict:
    return json.loads(query("SELECT body FROM audit_event WHERE id = %s", identifier)[0][0])


def _rehash(identifier: UUID) -> bytes:
    """The leaf hash of the row as it is now."""
    ((body, kid, signature, prev),) = query(
        "SELECT body, kid, signature, prev FROM audit_event WHERE id = %s", identifier
    )
    return leaf_hash(entry(body, kid, bytes(signature), prev))


# whole


def test_an_untouched_log_is_whole(log: Log):
    _written(log)
    report = log.report()
    assert report.findings == []
    assert (report.verdict, report.exit_code) == (Verdict.WHOLE, 0)
    assert report.size == report.checked == 6 + 4  # key.add, log.opened, log.schema, log.heartbeat
    assert (report.checkpoints, report.published, report.checkpoint_size) == (2, 2, report.size)


def test_an_empty_log_is_whole(log: Log):
    assert log.report().exit_code == 0


def test_a_check_from_a_checkpoint_on_reads_the_rest_only(log: Log):
    log.write(3)
    size = log.settle()
    log.write(4)
    log.settle()
    report = log.report(since=size)
    assert (report.findings, report.checked) == ([], 4)
    with pytest.raises(CannotVerify):
        log.report(since=size + 1)


def test_a_check_from_a_checkpoint_on_refuses_a_log_that_disagrees_with_it(log: Log, tamper):
    log.write(3)
    size = log.settle()
    tamper("UPDATE audit_leaf SET hash = sha256('x') WHERE index = 1")
    with pytest.raises(CannotVerify):
        log.report(since=size)


def test_the_log_may_grow_while_it_is_checked(log: Log):
    _written(log)
    trust = Trust.from_settings()
    log.write(3)
    log.settle()
    assert log.report(trust=trust).findings == []


# rows


def test_an_edited_body_is_found(log: Log, tamper):
    victim = _written(log)[1]
    tamper(("UPDATE audit_event SET body = replace(body, '\"ok\"', '\"no\"') WHERE id = %s", [victim]))
    report = log.report()
    assert report.exit_code == 2
    assert {"leaf_differs", "signature_wrong"} <= _codes(report)
    assert _names(report, victim, log.index_of(victim))


def test_an_edited_body_with_its_leaf_hash_is_found(log: Log, tamper):
    victim = _written(log)[1]
    tamper(("UPDATE audit_event SET body = replace(body, '\"ok\"', '\"no\"') WHERE id = %s", [victim]))
    tamper(("UPDATE audit_leaf SET hash = %s WHERE event_id = %s", [_rehash(victim), victim]))
    report = log.report()
    assert report.exit_code == 2
    assert {"root_differs", "signature_wrong"} <= _codes(report)
    assert _names(report, victim, log.index_of(victim))


def test_a_body_edited_and_signed_anew_by_a_stolen_process_key_is_found(log: Log, tamper):
    victim = _written(log)[1]
    body = facts_json({**_body(victim), "outcome": "refused"}).decode()
    signature = process_key().sign(row_message(body.encode()))
    tamper(
        (
            "UPDATE audit_event SET body = %s, signature = %s, outcome = 'refused' WHERE id = %s",
            [body, signature, victim],
        )
    )
    tamper(("UPDATE audit_leaf SET hash = %s WHERE event_id = %s", [_rehash(victim), victim]))
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"root_differs"})
    low = report.findings[0].index
    assert low is not None
    assert low <= log.index_of(victim) < report.size


def test_a_body_in_another_spelling_is_found(log: Log, tamper):
    victim = _written(log)[0]
    tamper(("UPDATE audit_event SET body = replace(body, ',', ', ') WHERE id = %s", [victim]))
    report = log.report()
    assert "body_not_canonical" in _codes(report)
    assert _names(report, victim)


def test_an_edited_signature_is_found(log: Log, tamper):
    victim = _written(log)[2]
    tamper(("UPDATE audit_event SET signature = set_byte(signature, 0, 7) WHERE id = %s", [victim]))
    report = log.report()
    assert report.exit_code == 2
    assert _names(report, victim, log.index_of(victim))


def test_a_deleted_row_is_found(log: Log, tamper):
    victim = _written(log)[4]
    index = log.index_of(victim)
    tamper(
        ("DELETE FROM audit_payload WHERE event_id = %s", [victim]),
        ("DELETE FROM audit_event WHERE id = %s", [victim]),
    )
    report = log.report()
    assert report.exit_code == 2
    assert _names(report, victim, index)


def test_a_deleted_row_with_its_leaf_is_found(log: Log, tamper):
    victim = _written(log)[2]
    index = log.index_of(victim)
    tamper(
        ("DELETE FROM audit_payload WHERE event_id = %s", [victim]),
        ("DELETE FROM audit_event WHERE id = %s", [victim]),
        ("DELETE FROM audit_leaf WHERE event_id = %s", [victim]),
    )
    report = log.report()
    assert report.exit_code == 2
    assert {"leaf_gone", "root_differs", "record_gone"} <= _codes(report)
    assert any(finding.index == index for finding in report.findings)
    assert _names(report, victim)  # the record after it names it


def test_a_row_deleted_before_it_had_its_place_is_found(log: Log, tamper):
    _written(log)
    victim, _ = log.write(2)
    tamper(
        ("DELETE FROM audit_payload WHERE event_id = %s", [victim]),
        ("DELETE FROM audit_event WHERE id = %s", [victim]),
        ("DELETE FROM audit_pending WHERE event_id = %s", [victim]),
    )
    log.settle()
    report = log.report()
    assert report.exit_code == 2
    assert _names(report, victim)


def test_a_cut_tail_is_found(log: Log, tamper):
    _written(log)
    cut = log.write(2)
    size = log.settle()
    tamper(
        ("DELETE FROM audit_payload WHERE event_id = ANY(%s)", [cut]),
        ("DELETE FROM audit_event WHERE id = ANY(%s)", [cut]),
        ("DELETE FROM audit_leaf WHERE event_id = ANY(%s)", [cut]),
        ("DELETE FROM audit_checkpoint WHERE size = %s", [size]),
        ("UPDATE audit_head SET size = %s", [size - 2]),
    )
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"log_cut"})
    assert report.findings[0].index == size - 2


def test_an_emptied_log_is_found(log: Log, tamper):
    _written(log)
    tamper(
        "TRUNCATE audit_event, audit_payload, audit_pending, audit_leaf, audit_checkpoint",
        "UPDATE audit_head SET size = 0",
    )
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"log_cut"})


def test_reordered_leaves_are_found(log: Log, tamper):
    first, second = _written(log)[3:5]
    low, high = log.index_of(first), log.index_of(second)
    tamper(
        ("UPDATE audit_leaf SET index = 1000 WHERE index = %s", [low]),
        ("UPDATE audit_leaf SET index = %s WHERE index = %s", [low, high]),
        ("UPDATE audit_leaf SET index = %s WHERE index = 1000", [high]),
    )
    report = log.report()
    assert report.exit_code == 2
    assert {"root_differs", "chain_turned"} <= _codes(report)
    assert _names(report, second, low)


def test_a_gap_in_the_indexes_is_found(log: Log, tamper):
    victim = _written(log)[5]
    index = log.index_of(victim)
    tamper(("UPDATE audit_leaf SET index = index + 1 WHERE index >= %s", [index]))
    report = log.report()
    assert report.exit_code == 2
    assert "leaf_gone" in _codes(report)
    assert any(finding.index == index for finding in report.findings)


def test_a_record_that_stands_twice_is_found(log: Log, tamper):
    victim = _written(log)[0]
    size = query("SELECT size FROM audit_head")[0][0]
    tamper(
        "ALTER TABLE audit_leaf DROP CONSTRAINT audit_leaf_event_id_key",
        ("INSERT INTO audit_leaf SELECT %s, event_id, hash FROM audit_leaf WHERE event_id = %s", [size, victim]),
        ("UPDATE audit_head SET size = %s", [size + 1]),
    )
    log.settle()
    report = log.report()
    assert "record_repeated" in _codes(report)
    assert _names(report, victim)


def test_a_head_that_disagrees_is_found(log: Log, tamper):
    _written(log)
    tamper("UPDATE audit_head SET size = size - 1")
    assert "head_differs" in _codes(log.report())


def test_a_row_taken_out_of_the_queue_is_found(log: Log, tamper):
    _written(log)
    (victim,) = log.write()
    tamper(("DELETE FROM audit_pending WHERE event_id = %s", [victim]))
    log.settle()
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"record_unsequenced"})
    assert _names(report, victim)


def test_a_row_put_into_the_queue_again_is_found_and_sequenced_once(log: Log, tamper):
    victim = _written(log)[0]
    tamper(("INSERT INTO audit_pending (event_id) VALUES (%s)", [victim]))
    log.write()
    log.settle()
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"queue_changed"})
    assert _names(report, victim, log.index_of(victim))


def test_an_edited_projected_column_is_found(log: Log, tamper):
    victim = _written(log)[1]
    tamper(("UPDATE audit_event SET actor_id = '8' WHERE id = %s", [victim]))
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"column_differs"})
    assert _names(report, victim, log.index_of(victim))
    assert "actor_id" in report.findings[0].message


def test_a_column_that_may_be_empty_is_found(log: Log):
    _written(log)
    query("ALTER TABLE audit_event ALTER COLUMN actor_id DROP NOT NULL")
    assert _codes(log.report()) == {"column_changed"}


# checkpoints


def _resign(signer: NoteSigner, size: int, value: bytes) -> str:
    return signer.sign(CheckpointText(signer.name, size, value).text())


def test_a_checkpoint_signed_by_another_key_is_found(log: Log, tamper):
    _written(log)
    size = query("SELECT size FROM audit_head")[0][0]
    note = _resign(NoteSigner(settings.AUDIT_ORIGIN, bytes(32)), size, bytes(32))
    tamper(("UPDATE audit_checkpoint SET note = %s, root = %s WHERE size = %s", [note, bytes(32), size]))
    assert _codes(log.report()) == {"checkpoint_invalid"}


def test_a_checkpoint_of_another_log_is_found(log: Log, tamper):
    _written(log)
    size = query("SELECT size FROM audit_head")[0][0]
    key = load_key(settings.AUDIT_KEY_DIR)
    note = key.sign(CheckpointText("another.example/log", size, bytes(32)).text())
    tamper(("UPDATE audit_checkpoint SET note = %s, root = %s WHERE size = %s", [note, bytes(32), size]))
    assert _codes(log.report()) == {"checkpoint_foreign"}


def test_a_checkpoint_whose_columns_were_edited_is_found(log: Log, tamper):
    _written(log)
    tamper(("UPDATE audit_checkpoint SET root = %s", [bytes(32)]))
    assert _codes(log.report()) == {"checkpoint_changed"}


@pytest.mark.parametrize("note", ["", "malformed\n", "a\n1\n\n\n"])
def test_a_malformed_checkpoint_is_found(log: Log, tamper, note):
    _written(log)
    tamper(("UPDATE audit_checkpoint SET note = %s", [note]))
    assert "checkpoint_invalid" in _codes(log.report())


def test_a_tail_rewritten_and_signed_anew_with_the_stolen_log_key_is_found(log: Log, tamper):
    """The thief rewrites the last record, its leaf, the checkpoint in the database and the signer's memory; not the
    published file, which is elsewhere by then."""
    victim = _written(log)[-1]
    index, size = log.index_of(victim), query("SELECT size FROM audit_head")[0][0]
    body = facts_json({**_body(victim), "outcome": "refused"}).decode()
    signature = process_key().sign(row_message(body.encode()))
    tamper(
        (
            "UPDATE audit_event SET body = %s, signature = %s, outcome = 'refused' WHERE id = %s",
            [body, signature, victim],
        )
    )
    tamper(("UPDATE audit_leaf SET hash = %s WHERE event_id = %s", [_rehash(victim), victim]))
    value = root(bytes(row[0]) for row in query("SELECT hash FROM audit_leaf ORDER BY index"))
    note = _resign(load_key(settings.AUDIT_KEY_DIR), size, value)
    tamper(("UPDATE audit_checkpoint SET note = %s, root = %s WHERE size = %s", [note, value, size]))
    (settings.AUDIT_KEY_DIR / "signer.json").unlink()
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"root_differs"})
    assert "published" in report.findings[0].message
    assert report.findings[0].index is not None
    assert report.findings[0].index <= index


def test_a_database_restored_from_an_old_backup_is_found_and_not_signed(log: Log, tamper):
    _written(log)
    tables = ("audit_event", "audit_payload", "audit_leaf", "audit_checkpoint")
    for table in tables:
        query(f"CREATE TEMP TABLE old_{table} AS SELECT * FROM {table}")
    old_size = query("SELECT size FROM audit_head")[0][0]
    log.write(3)
    log.settle()
    tamper(
        "DELETE FROM audit_payload p WHERE NOT EXISTS (SELECT FROM old_audit_event o WHERE o.id = p.event_id)",
        "DELETE FROM audit_event e WHERE NOT EXISTS (SELECT FROM old_audit_event o WHERE o.id = e.id)",
        "DELETE FROM audit_leaf l WHERE NOT EXISTS (SELECT FROM old_audit_leaf o WHERE o.index = l.index)",
        "DELETE FROM audit_checkpoint c WHERE NOT EXISTS (SELECT FROM old_audit_checkpoint o WHERE o.id = c.id)",
        ("UPDATE audit_head SET size = %s", [old_size]),
    )
    assert _codes(log.report()) == {"log_cut"}
    log.write(9)
    with pytest.raises(SignerRefused):
        log.settle()
    assert query("SELECT size FROM audit_head") == [(old_size,)]


def test_a_malformed_line_of_the_published_file_is_found(log: Log):
    _written(log)
    path = settings.AUDIT_PUBLISH_DIR / "checkpoints.jsonl"
    path.write_text(path.read_text().replace('"note"', '"nope"', 1))
    assert _codes(log.report()) == {"published_invalid"}


def test_another_checkpoint_key_than_the_log_was_opened_with_is_found(log: Log):
    _written(log)
    shutil.rmtree(settings.AUDIT_KEY_DIR)
    shutil.rmtree(settings.AUDIT_PUBLISH_DIR)
    Log()  # makes new keys
    assert {"checkpoint_invalid", "log_foreign"} <= _codes(log.report())


# stale


def test_a_log_whose_sequencer_stopped_is_stale(log: Log):
    _written(log)
    report = log.report(now=datetime.now(UTC) + timedelta(minutes=10))
    assert (report.exit_code, _codes(report)) == (3, {"no_heartbeat"})


def test_records_that_wait_too_long_make_the_log_stale(log: Log):
    _written(log)
    log.write()
    report = log.report(now=datetime.now(UTC) + timedelta(minutes=2))
    assert (report.exit_code, _codes(report)) == (3, {"pending_waits"})


def test_records_that_nobody_signed_make_the_log_stale(log: Log):
    log.write(2)
    query("SELECT audit_sequence(0, 100)")
    report = log.report(now=datetime.now(UTC) + timedelta(minutes=2))
    assert report.exit_code == 3
    assert "never_signed" in _codes(report)


# the command


def _run(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("audit_verify", *arguments, stdout=out, stderr=StringIO())
    return ended.value.code, out.getvalue()


def test_the_command_says_whole(log: Log):
    _written(log)
    code, text = _run()
    assert code == 0
    assert "The audit log is whole." in text


def test_the_command_names_the_record_for_people_and_for_programs(log: Log, tamper):
    victim = _written(log)[1]
    index = log.index_of(victim)
    tamper(("UPDATE audit_event SET body = replace(body, '\"ok\"', '\"no\"') WHERE id = %s", [victim]))
    code, text = _run()
    assert code == 2
    assert "TAMPERED" in text
    assert f"record {victim}, index {index}, job.submitted" in text
    code, text = _run("--json")
    report = json.loads(text)
    assert (code, report["exit_code"], report["verdict"]) == (2, 2, "tampered")
    assert {"record": str(victim), "index": index, "event": "job.submitted"}.items() <= report["findings"][0].items()
    code, text = _run("--jsonl")
    *findings, summary = map(json.loads, text.splitlines())
    assert (code, summary["exit_code"], findings) == (2, 2, report["findings"])


def test_the_command_ends_with_3_where_the_log_is_stale(log: Log):
    log.write()
    query("SELECT audit_sequence(0, 100)")
    assert _run()[0] == 3


def test_the_command_ends_with_1_where_it_cannot_check(log: Log, settings):
    _written(log)
    (settings.AUDIT_KEY_DIR / "checkpoint.vkey").write_text("nonsense")
    code, text = _run("--json")
    assert (code, json.loads(text)["verdict"]) == (1, "unknown")
    with pytest.raises(CommandError) as ended:
        call_command("audit_verify", stdout=StringIO(), stderr=StringIO())
    assert ended.value.returncode == 1


def test_a_check_inside_a_transaction_is_refused(log: Log):
    with transaction.atomic(), pytest.raises(CannotVerify):
        log.report()


def test_a_missing_table_is_no_verdict(log: Log):
    query("ALTER EVENT TRIGGER audit_no_drop DISABLE")
    query("DROP TABLE audit_checkpoint")
    with pytest.raises(CannotVerify):
        log.report()
    connection.close()


def test_the_public_key_can_be_given_from_outside(log: Log, places: Path):
    _written(log)
    vkey = (settings.AUDIT_KEY_DIR / "checkpoint.vkey").read_text().strip()
    for folder in (settings.AUDIT_KEY_DIR, settings.AUDIT_PUBLISH_DIR):
        (folder / "checkpoint.vkey").unlink()
    with pytest.raises(CannotVerify):
        log.report()
    assert _run("--vkey", vkey)[0] == 0
