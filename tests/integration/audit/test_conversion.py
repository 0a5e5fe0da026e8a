"""A log of the first form is converted where it stands: every record keeps its place, and old proofs hold."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from audit import conversion, enrolment, schema
from audit.prove import check_proof, prove
from audit.signing import load_key
from tests.integration.audit.conftest import Log, empty_log, parts_of, query, unmake_log, write_one
from tests.integration.audit.first_form import FIRST_FORM


@pytest.fixture
def old_log(transactional_db: None, places: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """A signed log of the first form, written as the release before wrote it."""
    unmake_log()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_schema())")
        cursor.execute(FIRST_FORM.replace("{schema}", cursor.fetchone()[0]))
    connection.close()
    enrolment.forget_process_key()
    with monkeypatch.context() as before:
        before.setattr("audit.append._insert", _insert)
        log = Log()
        log.write(3)
        log.sequencer.round(datetime.now(UTC))
        log.write(2)  # these wait for their place
    yield log
    empty_log()


def _insert(cursor: CursorWrapper, identifier: UUID, *rest: object) -> None:
    cursor.execute("INSERT INTO audit_event (body, signature, kid) VALUES (%s, %s, %s)", rest)


def _convert() -> bool:
    with transaction.atomic():
        return conversion.convert(
            query, query, schema_name=query("SELECT quote_ident(current_schema())")[0][0], superuser=True
        )


def test_a_log_of_the_first_form_keeps_its_records_and_proofs(old_log: Log):
    before = query("SELECT id, body, signature, kid, prev, created_at, event, actor_id FROM audit_event ORDER BY id")
    leaves = query("SELECT index, event_id, hash FROM audit_leaf ORDER BY index")
    payloads = query("SELECT event_id, slot, salt, value FROM audit_payload ORDER BY 1, 2")
    proof = prove(leaves[1][1])
    assert _convert()
    assert not _convert()  # a second time there is nothing to do
    assert (
        query("SELECT id, body, signature, kid, prev, created_at, event, actor_id FROM audit_event ORDER BY id")
        == before
    )
    assert query("SELECT index, event_id, hash FROM audit_leaf ORDER BY index") == leaves
    assert query("SELECT event_id, slot, salt, value FROM audit_payload ORDER BY 1, 2") == payloads
    old_log.write(2)
    old_log.settle()
    report = old_log.report()
    assert report.findings == []
    assert report.size > len(before)
    verifier = load_key(old_log.sequencer.signer.folder).verifier
    assert check_proof(proof.text, proof.entry, [verifier])[0] == proof.index
    assert check_proof(prove(leaves[1][1]).text, proof.entry, [verifier])[0] == proof.index


def test_a_converted_log_is_guarded_like_a_new_one(old_log: Log):
    _convert()
    guards = _guards()
    empty_log()
    assert guards == _guards()
    call_command("database_grants", "--app-role", "pg_read_all_data")  # any role that owns nothing
    with transaction.atomic():
        write_one()


def _guards() -> list[tuple[object, ...]]:
    tables = [*schema.TABLES, *(part for whole in schema.PARTED for part in parts_of(whole))]
    return query(
        "SELECT c.relname, c.relowner::regrole::text, t.tgname, t.tgenabled::text, t.tgtype FROM pg_class c "
        "LEFT JOIN pg_trigger t ON t.tgrelid = c.oid WHERE c.oid = ANY(%s::text[]::regclass[]) ORDER BY 1, 3",
        tables,
    )
