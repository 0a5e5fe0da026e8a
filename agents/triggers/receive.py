"""Deliveries to incoming webhooks: checked, filtered, mapped, submitted as the webhook's owner.

A body is untrusted: it fills words and arguments that the owner left open, and never selects who, with what or where.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from agents.errors import AgentsError, InvalidInput, NotVisible, QueueFull
from agents.models import Job, TriggerEvent, Webhook, WebhookDelivery
from agents.submit import submit
from agents.triggers import expressions, secrets, signatures
from agents.triggers.emit import KEY_MAX, emit
from agents.triggers.errors import (
    DeliveryMalformed,
    DeliveryRefused,
    DeliveryReplayed,
    DeliveryTooLarge,
    DeliveryUnusable,
    ExpressionFailed,
    OwnerInactive,
    TooManyDeliveries,
)
from approvals import rates

WINDOW_S = 60
DEPTH_MAX = 32
EVENT_MAX_BYTES = 256 * 1024
HEADERS_MAX, HEADER_MAX_CHARS = 100, 2000
REFUSED_ROWS_MAX = 30  # a minute, of one webhook: strangers do not fill the table
# never shown to expressions
_HIDDEN = frozenset({"authorization", "cookie", "proxy-authorization", "x-gitlab-token"})
_HIDDEN_PARTS = ("signature", "secret", "token")
Outcome = WebhookDelivery.Outcome


def receive(name: str, *, headers: Mapping[str, str], body: bytes, address: str, now: datetime) -> WebhookDelivery:
    """Takes one delivery, and gives its row: the job that it started, the event that it emitted, or that it was
    filtered out. `headers` have lower-case names.

    Raises:
        NotVisible: there is no such webhook, or it is off.
        DeliveryRefused, QueueFull: nothing was started; but for floods there is a row that says why.
    """
    webhook = Webhook.objects.select_related("owner").filter(name=name, enabled=True).first()
    if webhook is None:
        raise NotVisible("There is no such webhook.")
    # strangers are counted apart from who knows the secret, and before anything is computed for them
    _count(f"hook:{webhook.pk}:{address}", most=2 * webhook.rate_per_minute)
    try:
        if len(body) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise DeliveryTooLarge(f"The body is larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes.")
        verified = _verified(webhook, headers, body, now)
        _count(f"hook:{webhook.pk}", most=webhook.rate_per_minute)
        return _take(webhook, verified, headers, body, now=now)
    except (DeliveryRefused, QueueFull) as error:
        _refused(webhook, headers, body, error, now=now)
        raise


def _verified(webhook: Webhook, headers: Mapping[str, str], body: bytes, now: datetime) -> signatures.Verified:
    try:
        secret = secrets.unseal(webhook.secret_sealed)
    except secrets.SecretUnreadable as error:
        raise DeliveryRefused(str(error)) from None
    return signatures.verify(
        webhook.scheme,
        secret,
        headers=headers,
        body=body,
        tolerance_s=webhook.tolerance_s,
        now_s=now.timestamp(),
    )


@transaction.atomic
def _take(
    webhook: Webhook, verified: signatures.Verified, headers: Mapping[str, str], body: bytes, *, now: datetime
) -> WebhookDelivery:
    """All or nothing: what is refused here may be sent again. Raises DeliveryRefused, QueueFull."""
    if not webhook.owner.is_active:
        raise OwnerInactive("The owner of this webhook is not active.")
    delivery = _once(webhook, verified, body, now)
    given = _json(headers, body)
    try:
        variables = expressions.scope({"body": given, "headers": _shown(headers)})
        if not expressions.holds(webhook.condition, variables):
            return _end(delivery, Outcome.FILTERED, reason="The condition does not hold.")
        event = _emit(webhook, variables, given, now=now) if webhook.event else None
        job = _submit(webhook, delivery, variables, now=now) if webhook.payload is not None else None
    except ExpressionFailed as error:
        raise DeliveryUnusable(error.message) from None
    except InvalidInput as error:
        raise DeliveryUnusable(f"The job that comes out of it is refused: {error.message}") from None
    return _end(delivery, Outcome.STARTED if job is not None else Outcome.EMITTED, job=job, event=event)


def _once(webhook: Webhook, verified: signatures.Verified, body: bytes, now: datetime) -> WebhookDelivery:
    """Its row. Two that arrive at once wait for each other here. Raises DeliveryReplayed."""
    try:
        with transaction.atomic():
            return WebhookDelivery.objects.create(
                webhook=webhook,
                delivery_id=verified.delivery_id,
                replay_key=hashlib.sha256(verified.identity.encode()).hexdigest(),
                outcome=Outcome.STARTED,
                body_sha256=hashlib.sha256(body).hexdigest(),
                size_bytes=len(body),
                at=now,
            )
    except IntegrityError:
        raise DeliveryReplayed("This delivery was taken before.") from None


def _emit(webhook: Webhook, variables: expressions.Scope, given: Any, *, now: datetime) -> TriggerEvent:
    key = expressions.text(webhook.event_key, variables, limit=KEY_MAX) if webhook.event_key.strip() else ""
    data = given if isinstance(given, dict) else {"body": given}
    if len(json.dumps(data)) > EVENT_MAX_BYTES:
        raise DeliveryUnusable(f"An event takes at most {EVENT_MAX_BYTES // 1024} KiB.")
    source = f"webhook:{webhook.name}"
    return emit(webhook.event, owner_id=webhook.owner_id, source=source, key=key, data=data, now=now)


def _submit(webhook: Webhook, delivery: WebhookDelivery, variables: expressions.Scope, *, now: datetime) -> Job:
    job, _ = submit(
        expressions.submission(webhook.payload or {}, variables),
        user=webhook.owner,
        idempotency_key=f"webhook:{delivery.pk}",
        trigger=f"webhook:{webhook.name}",
        now=now,
    )
    return job


def _end(delivery: WebhookDelivery, outcome: str, *, reason: str = "", job: Any = None, event: Any = None) -> Any:
    delivery.outcome, delivery.reason, delivery.job, delivery.event = outcome, reason, job, event
    delivery.save(update_fields=["outcome", "reason", "job", "event"])
    return delivery


def _refused(webhook: Webhook, headers: Mapping[str, str], body: bytes, error: AgentsError, *, now: datetime) -> None:
    """A row of its own: raising has rolled back the first."""
    if rates.hit(f"hook-refused:{webhook.pk}", window_s=WINDOW_S).count > REFUSED_ROWS_MAX:
        return
    named = headers.get("webhook-id") or headers.get("x-github-delivery") or headers.get("idempotency-key") or ""
    WebhookDelivery.objects.create(
        webhook=webhook,
        delivery_id=named[:200].encode("ascii", "replace").decode().replace("\x00", ""),
        outcome=Outcome.REFUSED,
        code=error.code,
        reason=error.message[:1000],
        body_sha256=hashlib.sha256(body).hexdigest(),
        size_bytes=len(body),
        at=now,
    )


def _count(name: str, *, most: int) -> None:
    hits = rates.hit(name, window_s=WINDOW_S)
    if hits.count > most:
        raise TooManyDeliveries(f"More than {most} deliveries in a minute.", retry_after_s=hits.left_s)


def _json(headers: Mapping[str, str], body: bytes) -> Any:
    """Raises DeliveryMalformed."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise DeliveryMalformed("Send the body as application/json.")
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise DeliveryMalformed("The body is not JSON.") from None
    _storable(found, 0)
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _storable(value: Any, depth: int) -> None:
    """Raises DeliveryMalformed: what neither PostgreSQL nor UTF-8 can hold, and endless nesting."""
    if depth > DEPTH_MAX:
        raise DeliveryMalformed(f"The body is nested deeper than {DEPTH_MAX} levels.")
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise DeliveryMalformed("The body holds a text that is not valid Unicode, or a NUL.")
    elif isinstance(value, dict):
        for name, one in value.items():
            _storable(name, depth)
            _storable(one, depth + 1)
    elif isinstance(value, list):
        for one in value:
            _storable(one, depth + 1)


def _shown(headers: Mapping[str, str]) -> dict[str, str]:
    shown = {}
    for name, one in list(headers.items())[:HEADERS_MAX]:
        if name not in _HIDDEN and not any(part in name for part in _HIDDEN_PARTS):
            shown[name] = one[:HEADER_MAX_CHARS]
    return shown
