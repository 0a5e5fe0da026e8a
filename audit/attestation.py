"""The guards' own fingerprint: the log says once a minute how the triggers and functions that hold it are.

It covers what a trigger dropped, disabled or replaced leaves behind even where everything was put back: the row of a
trigger in PostgreSQL's catalog is another one, written by another transaction. So a change between two heartbeats shows,
unless `log.schema` declares it: the sequencer does where the release brought another form, an operator by
`manage.py audit_attest` after maintenance.
"""

import hashlib

from django.db import connection

from audit.actor import Actor, Target
from audit.append import record
from audit.canonical import facts_json
from audit.kinds import Event
from audit.plpgsql import FUNCTIONS
from audit.schema import EVENT_TRIGGERS, PROJECTED, TABLES, TRIGGERS

_TRIGGERS = """
SELECT c.relname::text, t.tgname::text, t.oid::text, t.xmin::text, t.tgenabled::text, t.tgtype::text, t.tgfoid::text
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
  WHERE c.oid = ANY(%s::text[]::regclass[]) AND NOT t.tgisinternal ORDER BY 1, 2
"""
_EVENT_TRIGGERS = """
SELECT evtname::text, oid::text, xmin::text, evtenabled::text FROM pg_event_trigger WHERE evtname = ANY(%s) ORDER BY 1
"""
_FUNCTIONS = """
SELECT p.proname::text, p.oid::text, p.prosrc, p.prosecdef::text, p.proowner::regrole::text
  FROM pg_proc p JOIN pg_class c ON c.oid = 'audit_event'::regclass AND c.relnamespace = p.pronamespace
  WHERE p.proname = ANY(%s) ORDER BY 1, 2
"""
_COLUMNS = """
SELECT attname::text, atttypid::regtype::text, attnotnull::text FROM pg_attribute
  WHERE attrelid = 'audit_event'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY 1
"""
# What hides rows or takes them away: PostgreSQL remembers that a table once had a rule.
_HIDING = """
SELECT relname::text, relhasrules::text, relrowsecurity::text FROM pg_class
  WHERE oid = ANY(%s::text[]::regclass[]) ORDER BY 1
"""
_LATEST = """
SELECT body::jsonb #>> '{context,guards}', body::jsonb #>> '{context,release}' FROM (
  SELECT id, body FROM audit_event WHERE event = %s UNION ALL SELECT id, body FROM audit_kept WHERE event = %s) r
  ORDER BY id DESC LIMIT 1
"""


def guards_digest() -> str:
    """SHA-256, in hex, over what the database's catalogs say of the log's triggers, functions, columns and rules."""
    found = []
    with connection.cursor() as cursor:
        for query, names in (
            (_TRIGGERS, TABLES),
            (_EVENT_TRIGGERS, EVENT_TRIGGERS),
            (_FUNCTIONS, FUNCTIONS),
            (_COLUMNS, None),
            (_HIDING, TABLES),
        ):
            cursor.execute(query, None if names is None else (list(names),))
            found.append([list(row) for row in cursor.fetchall()])
    return _digest(found)


def release_digest() -> str:
    """SHA-256, in hex, over what this release says of them."""
    return _digest(
        [
            [[name, function.signature, function.body] for name, function in sorted(FUNCTIONS.items())],
            [trigger.create() for trigger in TRIGGERS],
            [[name, *parts] for name, parts in sorted(EVENT_TRIGGERS.items())],
            [[name, kind] for name, kind in PROJECTED.items()],
        ]
    )


def attest(*, actor: Actor, log: str) -> str:
    """Writes `log.schema`: the guards are meant to be as they are now. Gives their digest. Call inside `atomic()`."""
    guards = guards_digest()
    record(
        Event.LOG_SCHEMA,
        actor=actor,
        target=Target(type="log", id=log),
        context={"guards": guards, "release": release_digest()},
    )
    return guards


def attest_release(*, actor: Actor, log: str) -> bool:
    """Attests where nothing was attested yet, or another release was. Call inside `atomic()`."""
    with connection.cursor() as cursor:
        cursor.execute(_LATEST, (Event.LOG_SCHEMA, Event.LOG_SCHEMA))
        row = cursor.fetchone()
    if row is not None and row[1] == release_digest():
        return False
    attest(actor=actor, log=log)
    return True


def _digest(value: object) -> str:
    return hashlib.sha256(facts_json(value)).hexdigest()
