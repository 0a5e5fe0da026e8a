"""Records and payloads that were forged, and what the check says of them."""

import base64
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import transaction

from audit import erase
from audit.actor import Actor, Target
from audit.append import record
from audit.canonical import facts_json
from audit.enrolment import process_key
from audit.entries import enrolment_message, key_id, row_message
from audit.ids import uuid7
from audit.kinds import Event
from tests.integration.audit.conftest import Log, query, write_one
from tests.integration.audit.test_verify import _body, _codes, _names, _written

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
