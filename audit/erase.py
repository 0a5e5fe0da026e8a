"""Erasing what is personal. The record of it stays, and so does the record that held it; both still verify."""

from uuid import UUID

from django.db import connection

from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event


def erase(record_id: UUID, *, actor: Actor, reason: str = "") -> list[str]:
    """Drops salt and value of every payload of a record, and writes `payload.erased`. Call inside `atomic()`.

    reason: why, in words; it is part of the record as a value of its own, and holds nothing personal.

    Returns:
        The slots that were erased; empty where there was nothing to erase, and then nothing is recorded.

    Raises:
        OutsideTransaction
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT slot FROM audit_payload WHERE event_id = %s AND salt IS NOT NULL ORDER BY slot", (record_id,)
        )
        slots = [slot for (slot,) in cursor.fetchall()]
        if slots:
            record(
                Event.PAYLOAD_ERASED,
                actor=actor,
                target=Target(type="record", id=str(record_id)),
                context={"slots": slots},
                payload={"reason": reason} if reason else None,
            )
            cursor.execute("SELECT audit_erase(%s)", (record_id,))
    return slots
