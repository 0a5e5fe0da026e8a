"""The keys that records are signed with, from the `key.*` records in the log."""

import base64
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db import connection

from audit.checking.findings import Report
from audit.entries import enrolment_message, key_id
from audit.kinds import Event
from audit.rotation import ENROLMENT, RECORDS

_KEYS = """
SELECT e.id, l.index, e.body, e.kid FROM (
  SELECT id, event, body, kid FROM audit_event UNION ALL SELECT id, event, body, kid FROM audit_kept) e
  LEFT JOIN audit_leaf l ON l.event_id = e.id WHERE e.event = ANY(%s) ORDER BY l.index
"""


@dataclass(slots=True)
class RowKey:
    """ends_at: the log index from which on the key signs nothing any more, None for never."""

    public: Ed25519PublicKey
    ends_at: int | None = None


def load_keys(report: Report, enrolment_keys: Collection[bytes]) -> dict[str, RowKey]:
    """Enrolled process keys by kid. A key that nobody trusted endorsed is reported and left out.

    The records that bring the keys are checked like all others when their turn comes.
    """
    with connection.cursor() as cursor:
        cursor.execute(_KEYS, ([Event.KEY_ADD, Event.KEY_REVOKE, Event.KEY_RETIRE],))
        rows = cursor.fetchall()
    keys: dict[str, RowKey] = {}
    ended = _ended_endorsers(rows)
    for identifier, index, body, kid in rows:
        try:
            facts = json.loads(body)
            event, context = facts["event"], facts["context"]
            if event == Event.KEY_ADD:
                public = _endorsed(context, kid, enrolment_keys)
                ends_at = ended.get(base64.b64decode(context["enrolment_key"]).hex())
                if ends_at is not None and (index is None or index >= ends_at):
                    raise ValueError(f"the enrolment key that endorsed it ended at index {ends_at}")
                keys.setdefault(kid, RowKey(public))
            elif context.get("use", RECORDS) == RECORDS:
                _end(keys, context)
        except (ValueError, KeyError, TypeError, InvalidSignature) as error:
            why = str(error) or "its endorsement is wrong"
            report.add(
                "key_not_endorsed",
                f"The record brings a key that may not sign: {why}.",
                record=identifier,
                index=index,
                event=Event.KEY_ADD,
            )
    return keys


def _ended_endorsers(rows: list[tuple]) -> dict[str, int]:
    """Enrolment keys (hex) that a record revokes, and from which index on."""
    ended: dict[str, int] = {}
    for _, _, body, _ in rows:
        try:
            facts = json.loads(body)
            context = facts["context"]
            if facts["event"] == Event.KEY_REVOKE and context.get("use") == ENROLMENT:
                ended[context["kid"]] = min(int(context["from_index"]), ended.get(context["kid"], 2**62))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # reported where the record is read in full
    return ended


def _endorsed(context: dict[str, Any], kid: str, enrolment_keys: Collection[bytes]) -> Ed25519PublicKey:
    """Raises ValueError, KeyError, TypeError, InvalidSignature."""
    public = base64.b64decode(context["public_key"], validate=True)
    endorser = base64.b64decode(context["enrolment_key"], validate=True)
    if context["kid"] != kid or key_id(public) != kid:
        raise ValueError("it is not signed with the key that it names")
    if endorser not in enrolment_keys:
        raise ValueError("no enrolment key of this installation endorsed it")
    signature = base64.b64decode(context["endorsement"], validate=True)
    Ed25519PublicKey.from_public_bytes(endorser).verify(signature, enrolment_message(kid, public))
    return Ed25519PublicKey.from_public_bytes(public)


def _end(keys: dict[str, RowKey], context: dict[str, Any]) -> None:
    key, ends_at = keys.get(context["kid"]), int(context["from_index"])
    if key is not None and (key.ends_at is None or ends_at < key.ends_at):
        key.ends_at = ends_at
