"""Is what holds the log in place still there? Triggers, functions, columns; and rows that belong nowhere."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import connection

from audit.checking.findings import Report
from audit.schema import EVENT_TRIGGERS, FUNCTIONS, OWNER, PARTED, PROJECTED, TABLES, TRIGGERS, Trigger

_PARTS = """
SELECT i.inhparent::regclass::text, c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  WHERE i.inhparent = ANY(%s::text[]::regclass[]) AND NOT i.inhdetachpending
"""
_REGISTERED = "SELECT name FROM audit_partition WHERE archived_at IS NULL"
_TRIGGERS = """
SELECT c.relname, t.tgname, t.tgenabled, t.tgtype, p.proname, t.tgqual IS NULL AND t.tgattr = ''::int2vector
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
  WHERE c.oid = ANY(%s::text[]::regclass[]) AND NOT t.tgisinternal
"""
_EVENT_TRIGGERS = """
SELECT evtname, evtevent, evtenabled, evtfoid::regproc::text FROM pg_event_trigger WHERE evtname = ANY(%s)
"""
_OWNER = "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'audit_event'::regclass"
_FUNCTIONS = """
SELECT p.proname, p.prosrc, p.prosecdef
  FROM pg_proc p JOIN pg_class c ON c.oid = 'audit_event'::regclass AND c.relnamespace = p.pronamespace
  WHERE p.proname = ANY(%s)
"""
_COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull, atthasdef FROM pg_attribute
  WHERE attrelid = 'audit_event'::regclass AND attnum > 0 AND NOT attisdropped
"""
_HIDING = """
SELECT c.relname, c.relrowsecurity, c.relhasrules
  FROM pg_class c WHERE c.oid = ANY(%s::text[]::regclass[]) AND (c.relrowsecurity OR c.relhasrules)
"""
_UNSEQUENCED = """
SELECT e.id, e.event FROM audit_event e
  WHERE NOT EXISTS (SELECT FROM audit_leaf l WHERE l.event_id = e.id)
    AND NOT EXISTS (SELECT FROM audit_pending p WHERE p.event_id = e.id)
  ORDER BY e.id LIMIT 1000
"""
_WAITING_FOR_NOTHING = """
SELECT p.event_id, l.index FROM audit_pending p
  LEFT JOIN audit_event e ON e.id = p.event_id LEFT JOIN audit_leaf l ON l.event_id = p.event_id
  WHERE e.id IS NULL OR l.index IS NOT NULL LIMIT 1000
"""
_TWICE = "SELECT event_id, max(index) FROM audit_leaf GROUP BY event_id HAVING count(*) > 1 LIMIT 1000"
_CHAIN_BROKEN = """
SELECT e.id, e.event, l.index, e.prev FROM audit_event e
  LEFT JOIN audit_event p ON p.id = e.prev LEFT JOIN audit_leaf l ON l.event_id = e.id
  WHERE e.prev IS NOT NULL AND p.id IS NULL
    AND NOT EXISTS (SELECT FROM unnest(%s::uuid[], %s::uuid[]) a (lower, upper) WHERE e.prev >= lower AND e.prev < upper)
  LIMIT 1000
"""
_CHAIN_TURNED = """
SELECT e.id, e.event, l.index, e.prev FROM audit_leaf l JOIN audit_event e ON e.id = l.event_id
  JOIN audit_leaf p ON p.event_id = e.prev WHERE p.index >= l.index LIMIT 1000
"""
_LONE_PAYLOADS = """
SELECT p.event_id, p.slot FROM audit_payload p LEFT JOIN audit_event e ON e.id = p.event_id
  WHERE e.id IS NULL LIMIT 1000
"""

# pg_trigger.tgtype, from PostgreSQL's catalog/pg_trigger.h
_BITS = {"BEFORE": 2, "AFTER": 0, "INSERT": 4, "DELETE": 8, "UPDATE": 16, "TRUNCATE": 32, "OR": 0}


def check_guards(report: Report) -> None:
    """Triggers, functions, columns and parts are as `audit.schema` made them, and nothing was added beside them."""
    parts = _check_parts(report)
    tables = [*TABLES, *(part for part, _ in parts)]
    with connection.cursor() as cursor:
        cursor.execute(_TRIGGERS, (tables,))
        found = {(table, name): rest for table, name, *rest in cursor.fetchall()}
        cursor.execute(_FUNCTIONS, (list(FUNCTIONS),))
        functions = {name: (source, definer) for name, source, definer in cursor.fetchall()}
        cursor.execute(_HIDING, (tables,))
        hiding = cursor.fetchall()
    for trigger in TRIGGERS:
        for table in (trigger.table, *(part for part, whole in parts if whole == trigger.table)):
            _check_trigger(report, trigger, table, found.pop((table, trigger.name), None))
    for table, name in sorted(found):
        report.add("trigger_added", f"A trigger {name} was added to {table}.")
    for name, function in FUNCTIONS.items():
        if functions.get(name) != (function.body, True):
            report.add("function_changed", f"The database function {name} is missing or was changed.")
    _check_columns(report)
    _check_event_triggers(report)
    for table, _, rules in hiding:
        report.add("rows_hidden", f"{'A rule' if rules else 'Row security'} was put on {table}.")


def _check_parts(report: Report) -> list[tuple[str, str]]:
    """The parts that are there, as (part, whole)."""
    with connection.cursor() as cursor:
        cursor.execute(_PARTS, (list(PARTED),))
        found = {(part, whole) for whole, part in cursor.fetchall()}
    expected = {(f"{whole}_{name}", whole) for (name,) in _all(_REGISTERED) for whole in PARTED}
    for part, _ in sorted(expected - found):
        report.add("partition_gone", f"The part {part} of the log was dropped or detached.")
    for part, whole in sorted(found - expected):
        report.add("partition_added", f"The table {part} was made a part of {whole}.")
    return sorted(found)


def _check_columns(report: Report) -> None:
    types = {"timestamptz": "timestamp with time zone"}
    found = {name: rest for name, *rest in _all(_COLUMNS)}
    for name, kind in PROJECTED.items():
        if found.get(name) != [types.get(kind, kind), name != "actor_for", False]:
            report.add("column_changed", f"The column {name} of audit_event is not the one that was made.")


def _check_event_triggers(report: Report) -> None:
    """Where a superuser made the log, it also refuses DROP; elsewhere that is said and is no finding."""
    if _all(_OWNER) != [(OWNER,)]:
        report.notes.append(
            "No event trigger refuses DROP and DETACH here, since the log was made without a superuser; a part that is "
            "gone is found by its records."
        )
        return
    with connection.cursor() as cursor:
        cursor.execute(_EVENT_TRIGGERS, (list(EVENT_TRIGGERS),))
        found = {name: tuple(rest) for name, *rest in cursor.fetchall()}
    for name, (event, _, function) in EVENT_TRIGGERS.items():
        if name not in found:
            report.add("trigger_missing", f"The event trigger {name} is gone.")
        elif found[name] != (event, "A", function):
            report.add("trigger_disabled", f"The event trigger {name} is not always enabled, or was changed.")


def _check_trigger(report: Report, trigger: Trigger, table: str, found: list[object] | None) -> None:
    if found is None:
        report.add("trigger_missing", f"The trigger {trigger.name} of {table} is gone.")
        return
    enabled, kind, function, unconditional = found
    if enabled != "A":
        report.add("trigger_disabled", f"The trigger {trigger.name} of {table} is not always enabled.")
    expected = sum(_BITS[word] for word in trigger.when.split()) + (1 if trigger.each == "ROW" else 0)
    if (kind, function, unconditional) != (expected, trigger.function, True):
        report.add("trigger_changed", f"The trigger {trigger.name} of {table} was changed.")


def check_rows(report: Report, archived: Sequence[tuple[str, str]] = ()) -> None:
    """Every record has one place or waits for one, and every record that another one followed is still there.

    archived: id ranges (from, below) whose records are not in the database any more.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL work_mem = '64MB'")  # the queries join whole tables
    for identifier, event in _all(_UNSEQUENCED):
        report.add(
            "record_unsequenced",
            "The record has no place in the log and does not wait for one: it was taken out of the queue, or written "
            "past the triggers.",
            record=identifier,
            event=event,
        )
    for identifier, index in _all(_WAITING_FOR_NOTHING):
        message = (
            "The record was deleted before it had its place in the log."
            if index is None
            else "The record is in the log and was put into the queue again."
        )
        report.add("queue_changed", message, record=identifier, index=index)
    for identifier, index in _all(_TWICE):
        report.add("record_repeated", "The record stands in the log more than once.", record=identifier, index=index)
    for identifier, event, index, prev in _all(
        _CHAIN_BROKEN, [lower for lower, _ in archived], [upper for _, upper in archived]
    ):
        report.add(
            "record_gone",
            f"The record {prev} was deleted: {event} followed it on its connection.",
            record=UUID(str(prev)),
            index=None,
        )
        report.add(
            "chain_broken", f"The record before it, {prev}, is gone.", record=identifier, event=event, index=index
        )
    for identifier, event, index, prev in _all(_CHAIN_TURNED):
        report.add(
            "chain_turned",
            f"The record stands before {prev}, which it followed: leaves were reordered.",
            record=identifier,
            event=event,
            index=index,
        )
    for identifier, slot in _all(_LONE_PAYLOADS):
        report.add("payload_added", f"The payload {slot} belongs to no record.", record=identifier)


def _all(query: str, *values: Any) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(query, values or None)
        return cursor.fetchall()
