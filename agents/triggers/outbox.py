"""Messages to endpoints: rows in the transaction of what they tell, sent by a task after its commit."""

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from celery import current_app
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from agents.models import WebhookEndpoint, WebhookMessage

log = logging.getLogger(__name__)

EVENTS = (
    "job.finished",
    "job.failed",
    "step.in_doubt",
    "approval.requested",
    "approval.decided",
    "endpoint.test",
)
TASK, QUEUE = "agents.deliver_webhooks", "control"
# After the first try; the last waits a day: with the sum of over three days a weekend's outage costs nothing.
DELAYS_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
TRIES = len(DELAYS_S) + 1
REPUBLISH_S = 30
BATCH = 100


def queue(event: str, *, owner_id: int, data: Mapping[str, Any], now: datetime) -> list[WebhookMessage]:
    """A message to each of the owner's endpoints that wants this event, in the caller's transaction."""
    wanted = WebhookEndpoint.objects.filter(owner_id=owner_id, enabled=True)
    endpoints = list(wanted.filter(Q(events=[]) | Q(events__contains=[event])))
    if not endpoints:
        return []
    return put(event, endpoints, data=data, now=now)


def put(
    event: str, endpoints: Iterable[WebhookEndpoint], *, data: Mapping[str, Any], now: datetime
) -> list[WebhookMessage]:
    """A message to each of these endpoints; they are told after the commit."""
    body = json.dumps({"type": event, "timestamp": now.isoformat(), "data": dict(data)}, separators=(",", ":"))
    rows = [
        WebhookMessage(endpoint=endpoint, event=event, body=body, tries_left=TRIES, not_before=now, created_at=now)
        for endpoint in endpoints
    ]
    WebhookMessage.objects.bulk_create(rows)
    ids = [row.endpoint_id for row in rows]
    WebhookEndpoint.objects.filter(pk__in=ids).update(published_at=now)
    transaction.on_commit(lambda: _publish_all(ids))
    return rows


def publish_due(now: datetime) -> int:
    """Tells workers of endpoints with messages that are due: retries, and those whose task was lost. Gives how many."""
    due = WebhookMessage.objects.filter(endpoint=OuterRef("pk"), state="queued", not_before__lte=now)
    endpoints = (
        WebhookEndpoint.objects.filter(Exists(due), enabled=True)
        .filter(Q(not_before__isnull=True) | Q(not_before__lte=now))
        .filter(Q(published_at__isnull=True) | Q(published_at__lt=now - timedelta(seconds=REPUBLISH_S)))
        .values_list("pk", "published_at")[:BATCH]
    )
    sent = 0
    for endpoint_id, published_at in endpoints:
        if not WebhookEndpoint.objects.filter(pk=endpoint_id, published_at=published_at).update(published_at=now):
            continue
        if not publish(endpoint_id):
            WebhookEndpoint.objects.filter(pk=endpoint_id).update(published_at=None)
            break
        sent += 1
    return sent


def publish(endpoint_id: UUID) -> bool:
    """False: the broker did not take it."""
    try:
        current_app.send_task(TASK, args=[str(endpoint_id)], queue=QUEUE, ignore_result=True)
    except (KombuError, RedisError, OSError) as error:
        log.warning("webhook.publish_failed", extra={"error": type(error).__name__})
        return False
    return True


def _publish_all(ids: Iterable[UUID]) -> None:
    """What the broker does not take is left to the next sweep."""
    for endpoint_id in ids:
        if not publish(endpoint_id):
            WebhookEndpoint.objects.filter(pk=endpoint_id).update(published_at=None)
            return
