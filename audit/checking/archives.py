"""Parts of the log that were archived, and legal holds: what the log's own records say of them."""

import json
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection

from audit.checking.findings import Report
from audit.kinds import Event

_SAID = """
SELECT r.id, r.event, l.index, r.body FROM (
  SELECT id, event, body FROM audit_event WHERE event = ANY(%s)
  UNION ALL SELECT id, event, body FROM audit_kept WHERE event = ANY(%s)) r
  LEFT JOIN audit_leaf l ON l.event_id = r.id ORDER BY r.id
"""
_PARTS = "SELECT name, record FROM audit_partition WHERE archived_at IS NOT NULL"
_HOLDS = "SELECT record, lower, upper, released FROM audit_hold"
LOWEST = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """lower, upper: its records have ids from `lower` on and below `upper`; records: how many of them were taken out."""

    name: str
    lower: str
    upper: str
    records: int
    index: int | None
    record: UUID


def load_archived(report: Report) -> list[Archived]:
    """What `log.archived` records say. Those records are checked like all others when their turn comes; a part that the
    database calls archived without one is reported."""
    archived = []
    for identifier, _, index, body in _said(Event.LOG_ARCHIVED):
        try:
            context = json.loads(body)["context"]
            archived.append(
                Archived(
                    name=str(context["part"]),
                    lower=str(UUID(context["lower"])) if context["lower"] else LOWEST,
                    upper=str(UUID(context["upper"])),
                    records=int(context["records"]),
                    index=index,
                    record=identifier,
                )
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            report.add("body_malformed", "The record does not say what was archived.", record=identifier, index=index)
    said = {(part.name, part.record) for part in archived}
    with connection.cursor() as cursor:
        cursor.execute(_PARTS)
        for name, record in cursor.fetchall():
            if (name, record) not in said:
                report.add("archive_unrecorded", f"The part {name} is gone without a record of it.", record=record)
    return archived


def check_holds(report: Report) -> None:
    """The database's holds are those that the log's records say."""
    placed: dict[UUID, tuple[datetime, datetime]] = {}
    released: dict[UUID, UUID] = {}
    for identifier, event, index, body in _said(Event.LOG_HOLD_PLACED, Event.LOG_HOLD_RELEASED):
        try:
            facts = json.loads(body)
            if event == Event.LOG_HOLD_PLACED:
                lower, upper = (datetime.fromisoformat(facts["context"][name]) for name in ("from", "until"))
                placed[identifier] = (lower, upper)
            else:
                released.setdefault(UUID(facts["target"]["id"]), identifier)
        except (ValueError, KeyError, TypeError, AttributeError):
            report.add("body_malformed", "The record does not say what is held.", record=identifier, index=index)
    with connection.cursor() as cursor:
        cursor.execute(_HOLDS)
        rows = {row[0]: row[1:] for row in cursor.fetchall()}
    for record, span in placed.items():
        if rows.get(record) != (*span, released.get(record)):
            report.add("hold_differs", "The legal hold is not in force as its record says.", record=record)
    for record in rows.keys() - placed.keys():
        report.add("hold_differs", "A legal hold is in force that no record placed.", record=record)


def _said(*events: Event) -> list[tuple[UUID, str, int | None, str]]:
    with connection.cursor() as cursor:
        cursor.execute(_SAID, (list(events), list(events)))
        return cursor.fetchall()
