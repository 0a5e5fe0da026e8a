"""Triggers, functions and clocks that were tampered with, and what the check says of them."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction

from audit.checking.database import check_guards
from audit.checking.findings import Report
from audit.schema import TRIGGERS
from tests.integration.audit.conftest import Log, query
from tests.integration.audit.test_verify import _codes, _names, _written

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
