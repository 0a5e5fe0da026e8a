"""How the log is doing, from a few cheap queries. Whether it is whole is `audit.verify`'s question."""

import base64
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from audit.models import Delivery

STALE_AFTER_S = 180  # three heartbeats
PENDING_AFTER_S = 30
LAGGING_AFTER_S = 600
NEVER_ARRIVED = 3  # failures, where nothing arrived yet

_STATUS = """
SELECT h.size, (SELECT count(*) FROM audit_pending),
       (SELECT min(e.created_at) FROM audit_pending p JOIN audit_event e ON e.id = p.event_id),
       c.size, c.created_at, c.root,
       (SELECT count(*) = 2 FROM pg_event_trigger WHERE evtname IN ('audit_no_drop', 'audit_no_detach') AND evtenabled = 'A')
  FROM audit_head h
  LEFT JOIN (SELECT size, created_at, root FROM audit_checkpoint ORDER BY id DESC LIMIT 1) c ON true
"""


def status(now: datetime | None = None) -> dict[str, Any]:
    """size: records in the log; pending: committed records that wait for their place; checkpoint_size, checkpoint_at,
    root (base64): the latest signed checkpoint, None before the first; drops_refused: does the database itself refuse to
    drop the log's tables (only where a superuser migrated)?; healthy; message: one line for people.

    deliveries: how far checkpoints have come at each place outside and at each witness (`place_status`); a place that
    lags makes the log unhealthy, and stops nothing.

    Values are JSON, times ISO 8601 text in UTC.
    """
    now = now or datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute(_STATUS)
        size, pending, waiting_since, checkpoint_size, checkpoint_at, root, refused = cursor.fetchone()
    healthy, message = _judge(now, size, pending, waiting_since, checkpoint_size, checkpoint_at)
    deliveries = [place_status(row, checkpoint_size or 0, now) for row in Delivery.objects.all()]
    lagging = [place["name"] for place in deliveries if not place["healthy"]]
    if healthy and lagging:
        healthy, message = False, f"Checkpoints do not arrive at {', '.join(lagging)}. {message}"
    return {
        "size": size,
        "pending": pending,
        "checkpoint_size": checkpoint_size,
        "checkpoint_at": checkpoint_at and checkpoint_at.isoformat(),
        "root": root and base64.b64encode(root).decode(),
        "drops_refused": refused,
        "healthy": healthy,
        "message": message,
        "deliveries": deliveries,
    }


def place_status(row: Delivery, size: int, now: datetime) -> dict[str, Any]:
    """name; size: the checkpoint that arrived last; behind: records since; delivered_at; failures, error: of the attempts
    since; healthy: false where it failed for LAGGING_AFTER_S."""
    since = row.delivered_at or row.tried_at
    late = row.failures > 1 and (since is None or (now - since).total_seconds() > LAGGING_AFTER_S)
    return {
        "name": row.name,
        "size": row.size,
        "behind": max(0, size - row.size),
        "delivered_at": row.delivered_at and row.delivered_at.isoformat(),
        "failures": row.failures,
        "error": row.error,
        "healthy": not (late or (row.failures > NEVER_ARRIVED and row.delivered_at is None)),
    }


def _judge(
    now: datetime,
    size: int,
    pending: int,
    waiting_since: datetime | None,
    checkpoint_size: int | None,
    checkpoint_at: datetime | None,
) -> tuple[bool, str]:
    if waiting_since is not None and (waited_s := (now - waiting_since).total_seconds()) > PENDING_AFTER_S:
        return False, f"{pending} records wait, the oldest for {_span(waited_s)}: is audit_sequencer running?"
    if checkpoint_at is None:
        if size or pending:
            return False, "Nothing is signed yet: audit_sequencer has not run."
        return True, "The log is empty."
    age_s = (now - checkpoint_at).total_seconds()
    if age_s > STALE_AFTER_S:
        return False, f"The last checkpoint is {_span(age_s)} old: is audit_sequencer running?"
    return True, f"{checkpoint_size} records signed {_span(max(age_s, 0))} ago."


def _span(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"
