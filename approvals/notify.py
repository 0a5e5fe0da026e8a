"""The outbox of messages about requests: rows in the asking transaction, sent by a task after its commit.

A row is sent by whoever moves it on by one conditional UPDATE, so a doubled task sends nothing twice. A sender that
dies leaves a row that is due again when its time is over: then a message may come twice, never not at all.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from approvals import channels, links
from approvals.eligibility import eligible_users, refusal
from approvals.errors import ChannelError
from approvals.models import ApprovalRequest, Notification

log = logging.getLogger(__name__)

TASK, QUEUE = "approvals.deliver", "control"
EMAIL, SLACK = "email", "slack"
ATTEMPTS_MAX = 8
RETRY_S, RETRY_MAX_S = 60, 3600  # longer than any channel's own timeout: it is the sender's lease as well
REPUBLISH_S = 30
BATCH = 100
# A job that asks and asks, on its own or talked into it, fills the inbox and not the mail of whoever decides.
MESSAGES_MAX, MESSAGES_WINDOW_S = 20, 3600
State = Notification.State


def queue(request: ApprovalRequest, *, now: datetime) -> list[Notification]:
    """Queues a mail to everybody who should decide, and one message to Slack where that is set up.

    Of one job nobody gets more than MESSAGES_MAX in MESSAGES_WINDOW_S: the rest is dropped, and the inbox shows it.
    Inside the caller's transaction; the tasks are published after its commit.
    """
    people = eligible_users(request).exclude(email="").order_by("pk")
    rows = [Notification(request=request, recipient=user, channel=EMAIL) for user in people]
    if settings.SLACK_WEBHOOK_URL:
        rows.append(Notification(request=request, recipient=None, channel=SLACK))
    lately = _lately(request, now)
    for row in rows:
        row.not_before = row.published_at = now
        if lately[row.channel, row.recipient_id] >= MESSAGES_MAX:
            row.state, row.error = State.DROPPED, "Enough messages about this job for now: the inbox shows the request."
    Notification.objects.bulk_create(rows)
    if not rows:
        log.warning("approval.nobody_to_tell", extra={"approval": str(request.pk)})
    ids = [row.pk for row in rows if row.state == State.QUEUED]
    transaction.on_commit(lambda: _publish_all(ids))
    return rows


def deliver(notification_id: UUID | str, *, now: datetime) -> bool:
    """Sends one message, if it is due and nobody else is sending it. Outside any transaction.

    False: there was nothing to send, or it was not taken; the row says what comes next.
    """
    row = (
        Notification.objects.select_related("request__approvers", "request__requester", "recipient")
        .filter(pk=notification_id, state=State.QUEUED, not_before__lte=now)
        .first()
    )
    if row is None or not _claim(row, now):
        return False
    if row.attempts > ATTEMPTS_MAX:  # its senders died
        _move(row, State.FAILED, error="Every sender was lost.")
        return False
    if row.request.state != ApprovalRequest.State.PENDING or row.request.expires_at <= now or _left(row):
        _move(row, State.DROPPED)
        return False
    link, url = links.issue(row.request, recipient_id=row.recipient_id, channel=row.channel, now=now)
    try:
        channels.send(row.channel, row.request, row.recipient, url)
    except ChannelError as error:
        link.delete()
        _failed(row, error)
        return False
    except Exception as error:  # a fault of ours or of a setting: said in the row, tried again, given up in the end
        log.exception("approval.notify_broken", extra={"approval": str(row.request_id), "channel": row.channel})
        link.delete()
        _failed(row, ChannelError(f"The message could not be made: {type(error).__name__}."))
        return False
    _move(row, State.SENT, sent_at=timezone.now(), error="")
    log.info("approval.notified", extra={"approval": str(row.request_id), "channel": row.channel})
    return True


def deliver_due(now: datetime) -> int:
    """Publishes again what is due: retries, and messages whose task was lost. Gives how many."""
    overdue = now - timedelta(seconds=REPUBLISH_S)
    due = list(
        Notification.objects.filter(state=State.QUEUED, not_before__lte=now)
        .filter(Q(published_at__isnull=True) | Q(published_at__lt=overdue))
        .order_by("not_before")
        .values_list("pk", "published_at")[:BATCH]
    )
    sent = 0
    for notification_id, published_at in due:
        seen = Notification.objects.filter(pk=notification_id, state=State.QUEUED, published_at=published_at)
        if not seen.update(published_at=now):
            continue
        if not _publish(notification_id):
            Notification.objects.filter(pk=notification_id, state=State.QUEUED).update(published_at=None)
            break
        sent += 1
    return sent


def _lately(request: ApprovalRequest, now: datetime) -> Counter[tuple[str, int | None]]:
    """How many messages about the request's parent each (channel, recipient) got or will get of the last while."""
    since = now - timedelta(seconds=MESSAGES_WINDOW_S)
    told = Notification.objects.filter(request__parent_id=request.parent_id, request__created_at__gt=since)
    return Counter(told.exclude(state=State.DROPPED).values_list("channel", "recipient_id"))


def _claim(row: Notification, now: datetime) -> bool:
    """Takes the row for the time that sending may need; `not_before` is when it counts as lost."""
    until = now + timedelta(seconds=min(RETRY_S * 2**row.attempts, RETRY_MAX_S))
    won = Notification.objects.filter(
        pk=row.pk, state=State.QUEUED, attempts=row.attempts, not_before=row.not_before
    ).update(attempts=F("attempts") + 1, not_before=until)
    row.attempts += 1
    return bool(won)


def _left(row: Notification) -> bool:
    return row.recipient is not None and bool(refusal(row.request, row.recipient))


def _failed(row: Notification, error: ChannelError) -> None:
    over = error.permanent or row.attempts >= ATTEMPTS_MAX
    _move(row, State.FAILED if over else State.QUEUED, error=error.message[:500], published_at=None)
    log.warning(
        "approval.notify_failed",
        extra={"approval": str(row.request_id), "channel": row.channel, "attempt": row.attempts, "final": over},
    )


def _move(row: Notification, state: str, **changes: object) -> None:
    """Only the attempt that holds the row writes to it. A message that went out was sent, whatever came meanwhile."""
    held = Notification.objects.filter(pk=row.pk, attempts=row.attempts)
    (held if state == State.SENT else held.filter(state=State.QUEUED)).update(state=state, **changes)


def _publish_all(ids: Sequence[UUID]) -> None:
    """What the broker does not take is left to the next sweep."""
    for place, notification_id in enumerate(ids):
        if not _publish(notification_id):
            Notification.objects.filter(pk__in=ids[place:], state=State.QUEUED).update(published_at=None)
            return


def _publish(notification_id: UUID) -> bool:
    """False: the broker did not take it."""
    try:
        current_app.send_task(TASK, args=[str(notification_id)], queue=QUEUE, ignore_result=True)
    except (KombuError, RedisError, OSError) as error:
        log.warning("approval.publish_failed", extra={"error": type(error).__name__})
        return False
    return True
