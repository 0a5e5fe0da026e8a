"""Tampering, as a superuser who switches triggers off, and what the check says of it."""

import base64
import json
import shutil
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction

from audit import erase
from audit.actor import Actor, Target
from audit.append import record
from audit.canonical import facts_json
from audit.checking.database import check_guards
from audit.checking.findings import Report, Verdict
from audit.checking.trust import Trust
from audit.enrolment import process_key
from audit.entries import enrolment_message, entry, key_id, row_message
from audit.errors import CannotVerify, SignerRefused
from audit.ids import uuid7
from audit.kinds import Event
from audit.merkle import leaf_hash, root
from audit.notes import CheckpointText, NoteSigner
from audit.schema import TRIGGERS
from audit.signing import load_key
from tests.integration.audit.conftest import Log, query, write_one


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


# forged rows


def _forge(key: Ed25519PrivateKey, event: Event, context: dict, *, at: datetime | None = None) -> UUID:
    """Inserts a record past record(), signed by `key`."""
    at = at or datetime.now(UTC)
    identifier, kid = uuid7(), key_id(key.public_key().public_bytes_raw())
    body = facts_json(
        {
            "v": 1,
            "id": identifier,
            "ts": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "actor": {"type": "user", "id": "1", "on_behalf_of": None},
            "event": event,
            "target": {"type": "job", "id": "forged"},
            "outcome": "ok",
            "context": context,
            "commit": {},
        }
    )
    query(
        "INSERT INTO audit_event (id, body, signature, kid) VALUES (%s, %s, %s, %s)",
        json.loads(body)["id"],
        body.decode(),
        key.sign(row_message(body)),
        kid,
    )
    return identifier


def test_a_record_added_with_an_unknown_key_is_found(log: Log):
    _written(log)
    forged = _forge(Ed25519PrivateKey.generate(), Event.APPROVAL_VOTED, {})
    log.settle()
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"key_unknown"})
    assert _names(report, forged, log.index_of(forged))


def test_whoever_holds_the_database_alone_cannot_enrol_a_key(log: Log):
    """They can sign a key.add, but not endorse it: that key is derived from what the database does not hold."""
    _written(log)
    key, endorser = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    enrolment = _forge(
        key,
        Event.KEY_ADD,
        {
            "use": "records",
            "kid": key_id(public),
            "public_key": base64.b64encode(public).decode(),
            "enrolment_key": base64.b64encode(endorser.public_key().public_bytes_raw()).decode(),
            "endorsement": base64.b64encode(endorser.sign(enrolment_message(key_id(public), public))).decode(),
        },
    )
    forged = _forge(key, Event.APPROVAL_VOTED, {})
    log.settle()
    report = log.report()
    assert {"key_not_endorsed", "key_unknown"} <= _codes(report)
    assert _names(report, enrolment)
    assert _names(report, forged)


def test_a_key_used_after_its_revocation_is_found(log: Log):
    log.write(2)
    size = log.settle()
    with transaction.atomic():
        record(
            Event.KEY_REVOKE,
            actor=Actor.user(1),
            target=Target(type="key", id=process_key().kid),
            context={"kid": process_key().kid, "from_index": size + 1},
        )
    (late,) = log.write()
    log.settle()
    report = log.report()
    assert _codes(report) == {"key_ended"}
    assert _names(report, late)


def test_a_backdated_record_is_found(log: Log):
    _written(log)
    with transaction.atomic():
        identifier = write_one("old", context={})
    kid, sign = process_key().kid, process_key().sign
    body = facts_json({**_body(identifier), "id": str(uuid7()), "ts": "2020-01-01T00:00:00.000000Z", "commit": {}})
    query(
        "INSERT INTO audit_event (id, body, signature, kid) VALUES (%s, %s, %s, %s)",
        json.loads(body)["id"],
        body.decode(),
        sign(row_message(body)),
        kid,
    )
    log.settle()
    assert _codes(log.report()) == {"backdated"}


def test_a_record_from_the_future_is_found(log: Log):
    _written(log)
    with transaction.atomic():
        identifier = write_one("new", context={})
    ahead = (datetime.now(UTC) + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    body = facts_json({**_body(identifier), "id": str(uuid7()), "ts": ahead, "commit": {}})
    query(
        "INSERT INTO audit_event (id, body, signature, kid) VALUES (%s, %s, %s, %s)",
        json.loads(body)["id"],
        body.decode(),
        process_key().sign(row_message(body)),
        process_key().kid,
    )
    log.settle()
    log.sequencer.beat_when_due(float("inf"))
    log.settle()
    assert "postdated" in _codes(log.report())


# payloads


def test_a_swapped_payload_is_found(log: Log, tamper):
    victim = _written(log)[1]
    tamper(('UPDATE audit_payload SET value = \'{"argv":["rm"]}\' WHERE event_id = %s', [victim]))
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"payload_differs"})
    assert _names(report, victim, log.index_of(victim))


def test_a_deleted_payload_is_found(log: Log, tamper):
    victim = _written(log)[1]
    tamper(("DELETE FROM audit_payload WHERE event_id = %s", [victim]))
    report = log.report()
    assert _codes(report) == {"payload_gone"}
    assert _names(report, victim)


def test_an_added_payload_is_found(log: Log, tamper):
    victim = _written(log)[1]
    tamper(("INSERT INTO audit_payload VALUES (%s, 'reason', sha256('x'), '1')", [victim]))
    report = log.report()
    assert _codes(report) == {"payload_added"}
    assert _names(report, victim)


def test_an_erased_payload_leaves_the_log_whole_and_a_record_of_it(log: Log):
    victim = _written(log)[1]
    with transaction.atomic():
        assert erase.erase(victim, actor=Actor.user(1)) == ["arguments"]
    log.settle()
    assert query("SELECT salt, value FROM audit_payload WHERE event_id = %s", victim) == [(None, None)]
    assert log.report().findings == []


def test_a_payload_forged_after_its_erasure_is_found(log: Log, tamper):
    victim = _written(log)[1]
    with transaction.atomic():
        erase.erase(victim, actor=Actor.user(1))
    log.settle()
    tamper(("UPDATE audit_payload SET salt = sha256('x'), value = '{}' WHERE event_id = %s", [victim]))
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"payload_differs"})
    assert _names(report, victim, log.index_of(victim))


def test_an_erasure_without_a_record_is_found(log: Log):
    victim = _written(log)[1]
    query("UPDATE audit_payload SET salt = NULL, value = NULL WHERE event_id = %s", victim)
    report = log.report()
    assert _codes(report) == {"payload_erased_silently"}
    assert _names(report, victim)


# guards


def test_a_dropped_trigger_is_found(log: Log):
    _written(log)
    for trigger in TRIGGERS:
        with transaction.atomic():
            query(f"DROP TRIGGER {trigger.name} ON {trigger.table}")
            report = Report()
            check_guards(report)
            transaction.set_rollback(True)
        assert _codes(report) == {"trigger_missing"}
        assert all(trigger.name in finding.message for finding in report.findings)
    query("DROP TRIGGER audit_leaf_append_only ON audit_leaf")
    report = log.report()
    assert (report.exit_code, _codes(report)) == (2, {"trigger_missing"})


@pytest.mark.parametrize("state", ["DISABLE", "ENABLE", "ENABLE REPLICA"])
def test_a_trigger_that_is_not_always_enabled_is_found(log: Log, state):
    _written(log)
    query(f"ALTER TABLE audit_event {state} TRIGGER audit_event_append_only")
    assert _codes(log.report()) == {"trigger_disabled"}


def test_a_trigger_made_to_do_less_is_found(log: Log):
    _written(log)
    query("DROP TRIGGER audit_event_append_only ON audit_event")
    query(
        "CREATE TRIGGER audit_event_append_only BEFORE DELETE ON audit_event "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
    )
    query("ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_append_only")
    assert _codes(log.report()) == {"trigger_changed"}


def test_a_changed_function_is_found(log: Log):
    _written(log)
    query("CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    assert _codes(log.report()) == {"function_changed"}


def test_what_was_added_to_hide_or_swallow_rows_is_found(log: Log):
    _written(log)
    query("CREATE RULE swallow AS ON INSERT TO audit_pending DO INSTEAD NOTHING")
    query("ALTER TABLE audit_leaf ENABLE ROW LEVEL SECURITY")
    query(
        "CREATE TRIGGER lose BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    )
    assert _codes(log.report()) == {"rows_hidden", "trigger_added"}


def _found(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


@pytest.mark.parametrize(
    "statements",
    [
        [
            "ALTER TABLE audit_event DISABLE TRIGGER USER",
            *(
                f"ALTER TABLE audit_event ENABLE ALWAYS TRIGGER {one.name}"
                for one in TRIGGERS
                if one.table == "audit_event"
            ),
        ],
        [
            "DROP TRIGGER audit_head_growing ON audit_head",
            "CREATE TRIGGER audit_head_growing BEFORE UPDATE ON audit_head "
            "FOR EACH ROW EXECUTE FUNCTION audit_growing()",
            "ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_head_growing",
        ],
        ["ALTER EVENT TRIGGER audit_no_drop DISABLE", "ALTER EVENT TRIGGER audit_no_drop ENABLE ALWAYS"],
    ],
    ids=["disabled", "dropped", "event trigger"],
)
def test_a_trigger_switched_off_and_put_back_is_found_and_stays_found(log: Log, statements):
    _written(log)
    for statement in statements:
        query(statement)
    report = log.report()
    assert (report.exit_code, _found(report)) == (2, {"guards_touched"})
    log.sequencer.beat_when_due(float("inf"))
    log.settle()
    report = log.report()
    assert (report.exit_code, _found(report)) == (2, {"guards_touched"})
    assert report.findings[0].event == "log.heartbeat"


def test_maintenance_that_is_declared_is_no_finding(log: Log):
    _written(log)
    query("ALTER TABLE audit_head DISABLE TRIGGER audit_head_keep")
    with pytest.raises(CommandError, match="guards are not"):
        call_command("audit_attest")
    query("ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_head_keep")
    call_command("audit_attest", stdout=StringIO())
    log.settle()
    log.sequencer.beat_when_due(float("inf"))
    log.settle()
    assert log.report().findings == []


def test_a_release_with_other_functions_declares_itself(log: Log, monkeypatch):
    _written(log)
    monkeypatch.setattr("audit.attestation.release_digest", lambda: "0" * 64)
    query("COMMENT ON TRIGGER audit_head_keep ON audit_head IS 'x'")  # touches nothing that counts
    log.settle()
    assert query("SELECT count(*) FROM audit_event WHERE event = 'log.schema'") == [(2,)]
    assert log.report().findings == []


def test_a_clock_set_back_is_found(log: Log, monkeypatch):
    _written(log)
    behind = datetime.now(UTC) - timedelta(hours=3)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return behind

    with monkeypatch.context() as patch:
        patch.setattr("audit.append.datetime", Clock)
        victim = log.write()[0]
        log.sequencer.beat_when_due(float("inf"))
    log.settle()
    report = log.report()
    assert "backdated" in _codes(report)
    assert _names(report, victim)


def test_several_processes_find_what_one_finds(log: Log, tamper, monkeypatch):
    victims = log.write(40)
    log.settle()
    log.write(5)
    log.settle()
    tamper(
        ("UPDATE audit_event SET actor_id = '8' WHERE id = %s", [victims[3]]),
        ("UPDATE audit_event SET body = replace(body, '\"ok\"', '\"no\"') WHERE id = %s", [victims[20]]),
        ("UPDATE audit_payload SET value = '{}' WHERE event_id = %s", [victims[30]]),
        ("UPDATE audit_leaf SET hash = sha256('x') WHERE index = 44", []),
    )
    monkeypatch.setattr("audit.checking.walk.STRETCH", 7)
    alone = log.report(processes=1)
    monkeypatch.setattr("audit.checking.walk.ALONE", 0)
    together = log.report(processes=2)
    assert together.findings == alone.findings
    assert (together.checked, together.size) == (alone.checked, alone.size)
    assert {"column_differs", "signature_wrong", "payload_differs", "root_differs"} <= _codes(alone)


def test_a_check_without_signatures_says_so(log: Log, tamper):
    victim = _written(log)[2]
    report = log.report(signatures=False)
    assert (report.exit_code, report.notes) == (0, ["The writers' signatures were not checked."])
    tamper(("UPDATE audit_event SET signature = set_byte(signature, 0, 7) WHERE id = %s", [victim]))
    assert _codes(log.report(signatures=False)) == {"leaf_differs"}


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
