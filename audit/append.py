"""Writing to the log, in the transaction of the change that is recorded."""

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from psycopg import errors

from audit.actor import Actor, ActorType, Target
from audit.canonical import canonical_json, facts_json
from audit.enrolment import ProcessKey, process_key
from audit.entries import SALT_BYTES, commitment, row_message
from audit.errors import InvalidRecord, LogUnwritable, NotWritten, OutsideTransaction
from audit.ids import uuid7
from audit.kinds import Event

BODY_MAX_BYTES = 32_768
PAYLOAD_MAX_BYTES = 4_194_304
_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}")
_SLOT = re.compile(r"[a-z][a-z0-9_.-]{0,63}")

# Why the database may refuse every record for a while, and what its operator does.
_ADVICE = {
    errors.InsufficientPrivilege: "`manage.py database_grants`, as the role that migrated, gives back what is missing.",
    errors.ReadOnlySqlTransaction: "The database is read-only: end that, or connect to the primary.",
    errors.DiskFull: "The database's disk is full: make room there; nothing that was recorded is lost.",
}

_INSERT = "INSERT INTO audit_event (id, body, signature, kid) VALUES (%s, %s, %s, %s)"
_INSERT_PAYLOAD = "INSERT INTO audit_payload (event_id, slot, salt, value) VALUES (%s, %s, %s, %s)"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A record that is made and signed, and not written yet. payloads: (slot, salt, value as canonical JSON)."""

    id: UUID
    body: str
    signature: bytes
    kid: str
    payloads: list[tuple[str, bytes, str]]


def record(
    event: Event,
    *,
    actor: Actor,
    target: Target,
    outcome: str = "ok",
    context: Mapping[str, Any] | None = None,
    payload: Mapping[str, Any] | None = None,
    using: str = DEFAULT_DB_ALIAS,
) -> UUID:
    """Writes one signed record in the caller's transaction; it stands or falls with it.

    context: small facts as JSON (ids, versions, digests), kept for ever: no floats, no personal data; UUIDs may be
    given as they are. payload: what is personal or bulky (arguments, output, reasons), by slot; the record holds a
    salted commitment, and the value itself can be erased later. outcome: a word such as `ok` or `refused`.

    Returns:
        The record's id (UUID version 7).

    Raises:
        OutsideTransaction: no `atomic()` block is open.
        InvalidRecord: a value has no canonical form, or the body or a payload is too big.
        NotWritten: a rule or a trigger in the database swallowed the record, or (LogUnwritable) the database refuses all.
    """
    connection = connections[using]
    if not connection.in_atomic_block:
        raise OutsideTransaction("record() needs atomic(): a record shares the transaction of the change it records.")
    if not isinstance(event, Event):
        raise InvalidRecord(f"{event!r} is not in the vocabulary of audit.kinds.Event.")
    key = process_key()
    if not key.enrolled and not _enrolling(connection, key):
        _enrol(connection, key)
    sealed = seal(event, actor=actor, target=target, outcome=outcome, context=context, payload=payload, key=key)
    with connection.cursor() as cursor:
        _insert(cursor, sealed.id, sealed.body, sealed.signature, sealed.kid)
        if sealed.payloads:
            rows = [(sealed.id, slot, salt, value) for slot, salt, value in sealed.payloads]
            cursor.executemany(_INSERT_PAYLOAD, rows)
    return sealed.id


def seal(
    event: Event,
    *,
    actor: Actor,
    target: Target,
    outcome: str = "ok",
    context: Mapping[str, Any] | None = None,
    payload: Mapping[str, Any] | None = None,
    key: ProcessKey,
) -> Sealed:
    """Makes and signs a record for whoever writes several in one statement, in the order in which they were sealed and
    in the transaction of what they record (`agents.engine.hot`); arguments and errors are those of `record`.

    key: of this process, and enrolled.
    """
    payloads = [_sealed(slot, value) for slot, value in (payload or {}).items()]
    identifier, body = _body(event, actor, target, outcome, context, payloads)
    return Sealed(identifier, body.decode(), key.sign(row_message(body)), key.kid, payloads)


def _body(
    event: Event,
    actor: Actor,
    target: Target,
    outcome: str,
    context: Mapping[str, Any] | None,
    payloads: list[tuple[str, bytes, str]],
) -> tuple[UUID, bytes]:
    if not _WORD.fullmatch(outcome):
        raise InvalidRecord(f"An outcome is one word in lower case, not {outcome!r}.")
    identifier = uuid7()
    body: dict[str, Any] = {
        "v": 1,
        "id": str(identifier),
        "ts": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "actor": {"type": actor.type, "id": actor.id, "on_behalf_of": actor.on_behalf_of},
        "event": event,
        "target": {"type": target.type, "id": str(target.id)},
        "outcome": outcome,
        "context": dict(context or {}),
        "commit": {slot: base64.b64encode(commitment(salt, slot, value)).decode() for slot, salt, value in payloads},
    }
    encoded = facts_json(body)
    if len(encoded) > BODY_MAX_BYTES:
        raise InvalidRecord(
            f"The record is {len(encoded)} bytes long; {BODY_MAX_BYTES} is the most. Bulky values belong in `payload`."
        )
    return identifier, encoded


def _sealed(slot: str, value: Any) -> tuple[str, bytes, str]:
    if not _SLOT.fullmatch(slot):
        raise InvalidRecord(f"A payload's slot is a short name in lower case, not {slot!r}.")
    encoded = canonical_json(value)
    if len(encoded) > PAYLOAD_MAX_BYTES:
        raise InvalidRecord(f"The payload `{slot}` is {len(encoded)} bytes long; {PAYLOAD_MAX_BYTES} is the most.")
    return slot, os.urandom(SALT_BYTES), encoded.decode()


def _enrol(connection: BaseDatabaseWrapper, key: ProcessKey) -> None:
    """Writes `key.add` in the caller's transaction, and takes the key as enrolled once that is committed.

    Another thread that writes at the same time enrols the same key again, which does no harm: neither depends on the
    other's commit.
    """
    actor = Actor(type=ActorType.SYSTEM, id=f"process:{key.kid}")
    identifier, body = _body(Event.KEY_ADD, actor, Target(type="key", id=key.kid), "ok", key.facts(), [])
    with connection.cursor() as cursor:
        _insert(cursor, identifier, body.decode(), key.sign(row_message(body)), key.kid)
    connection.on_commit(_Enrolment(connection, key))


def _insert(cursor: CursorWrapper, identifier: UUID, body: str, signature: bytes, kid: str) -> None:
    try:
        cursor.execute(_INSERT, (identifier, body, signature, kid))
    except DatabaseError as error:
        for kind, advice in _ADVICE.items():
            if isinstance(error.__cause__, kind):
                why = str(error).splitlines()[0]
                raise LogUnwritable(f"The audit log cannot be written, so nothing was done: {why}. {advice}") from error
        raise
    if cursor.rowcount != 1:
        raise NotWritten("The database took the record without keeping it.")


def _enrolling(connection: BaseDatabaseWrapper, key: ProcessKey) -> bool:
    """Does a `key.add` stand in the open transaction? Django drops the hook when its savepoint is rolled back."""
    hooks = (entry[1] for entry in connection.run_on_commit)
    return any(isinstance(hook, _Enrolment) and hook.key is key for hook in hooks)


class _Enrolment:
    """The commit hook of a `key.add`."""

    def __init__(self, connection: BaseDatabaseWrapper, key: ProcessKey) -> None:
        self.connection = connection
        self.key = key

    def __call__(self) -> None:
        if not self.connection.in_atomic_block:  # hooks may also be run by hand, before any commit
            self.key.enrolled = True
