"""Posting messages to an endpoint, in order of their time, by one worker at a time.

Retries are rows. An endpoint that takes nothing for days is turned off, with the reason; so is one that answers 410.
"""

import asyncio
import logging
import random
import time
from datetime import datetime, timedelta
from uuid import UUID

import httpx2
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from agents.models import WebhookAttempt, WebhookEndpoint, WebhookMessage
from agents.triggers import addresses, secrets, signatures
from agents.triggers.errors import AddressRefused, TriggerOff
from agents.triggers.outbox import DELAYS_S, TRIES, put
from agents.triggers.outbox import publish as tell
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0  # of one try, all in all
LEASE_S = 60
BUDGET_S = 20.0  # of one task: others want the worker too
ANSWER_MAX_BYTES = 1024
DISABLE_AFTER = timedelta(days=3)
JITTER = 0.1
REST_MAX = timedelta(seconds=60)
SENDER = Actor.system("webhooks")
State = WebhookMessage.State


class Failed(Exception):
    """The message was not taken. gone: the other side wants no more."""

    def __init__(self, message: str, *, status: int | None = None, answer: str = "", gone: bool = False) -> None:
        super().__init__(message)
        self.message, self.status, self.answer, self.gone = message, status, answer, gone


def deliver(endpoint_id: UUID | str, *, now: datetime) -> int:
    """Posts what is due to this endpoint, unless another worker does. Outside any transaction. Gives how many it took."""
    free = Q(not_before__isnull=True) | Q(not_before__lte=now)
    lease = now + timedelta(seconds=LEASE_S)
    if not WebhookEndpoint.objects.filter(free, pk=endpoint_id, enabled=True).update(not_before=lease):
        return 0
    endpoint = WebhookEndpoint.objects.select_related("owner").get(pk=endpoint_id)
    until, taken, rest = time.monotonic() + BUDGET_S, 0, None
    try:
        while (message := _next(endpoint, now)) and time.monotonic() < until:
            if not _try(endpoint, message):
                # it rests with all its messages: what is down is not asked a hundred times
                rest = timezone.now() + min(delay(message.tries_left), REST_MAX)
                break
            taken += 1
    finally:
        # without a published_at the next sweep sends what is due by then
        mine = WebhookEndpoint.objects.filter(pk=endpoint_id, not_before=lease)
        mine.update(not_before=rest, published_at=None)
    return taken


def replay(message: WebhookMessage, *, by: Actor, now: datetime) -> None:
    """Sends a message again, whatever became of it, with its id; tries begin anew.

    Raises:
        TriggerOff: its endpoint is off.
    """
    if not WebhookEndpoint.objects.filter(pk=message.endpoint_id, enabled=True).exists():
        raise TriggerOff("The endpoint is off: turn it on first.")
    with transaction.atomic():
        WebhookMessage.objects.filter(pk=message.pk).update(
            state=State.QUEUED, tries_left=TRIES, not_before=now, ended_at=None, error=""
        )
        record(
            Event.WEBHOOK_REPLAYED,
            actor=by,
            target=Target(type="webhook_message", id=str(message.pk)),
            context={"endpoint": str(message.endpoint_id), "event": message.event},
        )
        endpoint_id = message.endpoint_id
        transaction.on_commit(lambda: tell(endpoint_id) and None)
    message.refresh_from_db()


@transaction.atomic
def send_test(endpoint: WebhookEndpoint, *, now: datetime) -> WebhookMessage:
    """A message `endpoint.test`, whatever events the endpoint wants. Raises TriggerOff."""
    if not endpoint.enabled:
        raise TriggerOff("The endpoint is off: turn it on first.")
    return put("endpoint.test", [endpoint], data={"endpoint": endpoint.name}, now=now)[0]


def _next(endpoint: WebhookEndpoint, now: datetime) -> WebhookMessage | None:
    due = WebhookMessage.objects.filter(endpoint=endpoint, state=State.QUEUED, not_before__lte=now)
    return due.order_by("not_before", "id").first()


def _try(endpoint: WebhookEndpoint, message: WebhookMessage) -> bool:
    """One attempt. False: it was not taken. A sender that dies here leaves a message that is due a minute later."""
    started, began = timezone.now(), time.monotonic()
    held = WebhookMessage.objects.filter(
        pk=message.pk, state=State.QUEUED, attempts=message.attempts, tries_left=message.tries_left
    )
    lease = {"not_before": started + timedelta(seconds=LEASE_S)}
    if not held.update(attempts=F("attempts") + 1, tries_left=F("tries_left") - 1, **lease):
        return True
    message.attempts += 1
    message.tries_left -= 1
    status, answer, failure = None, "", None
    try:
        status, answer = _post(endpoint, message, now=started)
    except Failed as error:
        status, answer, failure = error.status, error.answer, error
    _settle(endpoint, message, failure, status=status, answer=answer, at=started, took_s=time.monotonic() - began)
    return failure is None


def _post(endpoint: WebhookEndpoint, message: WebhookMessage, *, now: datetime) -> tuple[int, str]:
    """Raises Failed."""
    body = message.body.encode()
    message_id, timestamp = f"msg_{message.pk.hex}", int(now.timestamp())
    try:
        secret = secrets.unseal(endpoint.secret_sealed)
        place = addresses.resolve(endpoint.address)
    except (secrets.SecretUnreadable, AddressRefused) as error:
        raise Failed(str(error)) from None
    except (OSError, UnicodeError) as error:
        raise Failed(f"The name could not be looked up: {error}"[:300]) from None
    headers = {
        "Host": place.host,
        "Content-Type": "application/json",
        "User-Agent": f"Countersign/{settings.VERSION}",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signatures.sign(secret, message_id=message_id, timestamp=timestamp, body=body),
    }
    try:
        return asyncio.run(_exchange(place, headers, body))
    except TimeoutError:
        raise Failed(f"It did not answer within {TIMEOUT_S:.0f} seconds.") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise Failed(f"{type(error).__name__}: {error}"[:300]) from None


async def _exchange(place: addresses.Place, headers: dict[str, str], body: bytes) -> tuple[int, str]:
    """Asynchronous for its deadline's sake, which holds for a side that sends a byte now and then as well.

    Raises:
        Failed, TimeoutError, httpx2.HTTPError
    """
    async with (
        asyncio.timeout(TIMEOUT_S),
        httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
        client.stream(
            "POST", place.url, content=body, headers=headers, extensions={"sni_hostname": place.server_name}
        ) as answer,
    ):
        read = b""
        async for part in answer.aiter_raw(ANSWER_MAX_BYTES):
            read += part
            if len(read) >= ANSWER_MAX_BYTES:
                break
        status = answer.status_code
        text = read[:ANSWER_MAX_BYTES].decode("utf-8", "replace").replace("\x00", "\N{SYMBOL FOR NULL}")
    if 200 <= status < 300:
        return status, text
    why = "It answered with a redirect, which is not followed" if 300 <= status < 400 else "It answered"
    raise Failed(f"{why}: {status}.", status=status, answer=text, gone=status == 410)


@transaction.atomic
def _settle(
    endpoint: WebhookEndpoint,
    message: WebhookMessage,
    failure: Failed | None,
    *,
    status: int | None,
    answer: str,
    at: datetime,
    took_s: float,
) -> None:
    now = timezone.now()
    WebhookAttempt.objects.create(
        message=message,
        number=message.attempts,
        at=at,
        duration_ms=int(took_s * 1000),
        status=status,
        error=failure.message if failure else "",
        answer=answer,
    )
    mine = WebhookMessage.objects.filter(pk=message.pk, state=State.QUEUED, attempts=message.attempts)
    if failure is None:
        mine.update(state=State.SENT, ended_at=now, error="")
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(failing_since=None)
        endpoint.failing_since = None
        return
    log.warning("webhook.not_taken", extra={"endpoint": str(endpoint.pk), "attempt": message.attempts})
    if message.tries_left <= 0:
        mine.update(state=State.FAILED, ended_at=now, error=failure.message)
    else:
        mine.update(not_before=now + delay(message.tries_left), error=failure.message)
    _fail(endpoint, failure, now=now)


def delay(tries_left: int) -> timedelta:
    """Until the next try, with a little chance, so that what failed together does not come back together."""
    seconds = DELAYS_S[min(len(DELAYS_S) - 1, max(0, TRIES - 1 - tries_left))]
    return timedelta(seconds=seconds * random.uniform(1, 1 + JITTER))


def _fail(endpoint: WebhookEndpoint, failure: Failed, *, now: datetime) -> None:
    endpoint.failing_since = endpoint.failing_since or now
    WebhookEndpoint.objects.filter(pk=endpoint.pk, failing_since__isnull=True).update(failing_since=now)
    if failure.gone:
        disable(endpoint, "It answered 410: it wants no more messages.", now=now)
    elif now - endpoint.failing_since >= DISABLE_AFTER:
        disable(endpoint, f"It took nothing for {DISABLE_AFTER.days} days. Last: {failure.message}", now=now)


def disable(endpoint: WebhookEndpoint, why: str, *, now: datetime) -> None:
    """Turns an endpoint off, with its record; what was queued is given up, and can be sent again by hand."""
    if not WebhookEndpoint.objects.filter(pk=endpoint.pk, enabled=True).update(enabled=False, disabled_reason=why):
        return
    WebhookMessage.objects.filter(endpoint=endpoint, state=State.QUEUED).update(
        state=State.FAILED, ended_at=now, error="The endpoint was turned off."
    )
    record(
        Event.TRIGGER_CHANGED,
        actor=SENDER,
        target=Target(type="webhook_endpoint", id=str(endpoint.pk)),
        outcome="disabled",
        context={"action": "disabled", "name": endpoint.name},
        payload={"reason": why},
    )
