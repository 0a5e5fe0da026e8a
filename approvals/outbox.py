"""Sending what `approvals.notify` queued: by a task after the commit, retried as rows.

A row is sent by whoever moves it on by one conditional UPDATE, so a doubled task sends nothing twice. A sender that
dies leaves a row that is due again when its time is over: then a message may come twice, never not at all.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import UUID

from celery import current_app
from django.conf import settings
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from approvals import channels, links
from approvals.channels.base import Item, Kind, Message
from approvals.eligibility import refusal
from approvals.errors import ChannelError
from approvals.models import ApprovalLink, ApprovalRequest, Notification, Vote

log = logging.getLogger(__name__)

TASK, QUEUE = "approvals.deliver", "control"
ATTEMPTS_MAX = 8
RETRY_S, RETRY_MAX_S = 60, 3600  # longer than any channel's own timeout: it is the sender's lease as well
REPUBLISH_S = 30
BATCH = 100
PARTS_MAX = 25  # requests that one message tells of
LANE_WAIT_S, LANE_BUSY_S = 1.0, 5
CHANGES_MAX = 3
State = Notification.State
PENDING = ApprovalRequest.State.PENDING


def deliver(notification_id: UUID | str, *, now: datetime) -> bool:
    """Sends one message, if it is due and nobody else is sending it. Outside any transaction.

    False: there was nothing to send, or it was not taken; the row says what comes next.
    """
    row = (
        Notification.objects.select_related("request__approvers", "request__requester", "recipient")
        .filter(pk=notification_id, state=State.QUEUED, not_before__lte=now)
        .first()
    )
    if row is None:
        return False
    with _lane(row.channel) as free:
        if not free:  # its server is slow: whoever holds the thread must not hold up other channels' messages
            later = {"not_before": now + timedelta(seconds=LANE_BUSY_S), "published_at": None}
            _held(row).filter(not_before=row.not_before).update(**later)
            return False
        return _claim(row, now) and _deliver(row, now)


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


def alike(request: ApprovalRequest) -> Q | None:
    """Which requests one message may tell of together with this one: of its job, by the same rule, not of high risk.

    None: it stands alone.
    """
    if request.kind != ApprovalRequest.Kind.APPROVAL or request.risk not in ("low", "medium"):
        return None
    same = {"kind": request.kind, "risk": request.risk, "rule": request.rule, "approvers": request.approvers_id}
    return Q(request__parent_id=request.parent_id, **{f"request__{name}": value for name, value in same.items()})


def publish_all(ids: Sequence[UUID]) -> None:
    """What the broker does not take is left to the next sweep."""
    for place, notification_id in enumerate(ids):
        if not _publish(notification_id):
            Notification.objects.filter(pk__in=ids[place:], state=State.QUEUED).update(published_at=None)
            return


def _deliver(row: Notification, now: datetime) -> bool:
    if row.attempts > ATTEMPTS_MAX:  # its senders died
        _move(row, State.FAILED, error="Every sender was lost.")
        return False
    if not _wanted(row, now):
        _move(row, State.DROPPED)
        return False
    rows = [row, *_parts(row, now)]
    before = [_standing(one.request) for one in rows]
    made: list[ApprovalLink] = []
    try:
        place = _send(rows, made, now)
    except ChannelError as error:
        failure = error
    except Exception as error:  # a fault of ours or of a setting: said in the row, tried again, given up in the end
        log.exception("approval.notify_broken", extra={"approval": str(row.request_id), "channel": row.channel})
        failure = ChannelError(f"The message could not be made: {type(error).__name__}.")
    else:
        for one in rows:
            _move(one, State.SENT, sent_at=timezone.now(), error="", place=place[:200], part_of=_lead(one, row))
        log.info("approval.notified", extra={"approval": str(row.request_id), "channel": row.channel})
        _catch_up(rows, before, now)
        return True
    ApprovalLink.objects.filter(pk__in=[link.pk for link in made]).delete()
    for one in rows:
        _failed(one, failure)
    return False


def _send(rows: Sequence[Notification], made: list[ApprovalLink], now: datetime) -> str:
    """Gives the place. Raises ChannelError, or what a channel's own fault raises."""
    row = rows[0]
    channel = channels.named(row.channel)
    if channel is None:
        raise ChannelError(f"There is no channel {row.channel!r} here.", permanent=True)
    if row.kind == Kind.UPDATE:
        return _change(channel, row)
    items = []
    for one in rows:
        if row.kind == Kind.OUTCOME:  # there is nothing left to decide, so nothing to find by a token
            items.append(Item(request=one.request, url=address(one.request)))
            continue
        link, url = links.issue(one.request, recipient_id=row.recipient_id, channel=row.channel, now=now)
        made.append(link)
        items.append(Item(request=one.request, url=url))
    place = _place(row) if row.kind != Kind.REQUEST else ""
    return channel.send(Message(id=row.pk, kind=row.kind, items=items, recipient=row.recipient, place=place))


def _change(channel: channels.Channel, row: Notification) -> str:
    """Changes the message that tells of this request, until it says what is so: others may have changed it meanwhile."""
    place = _place(row)
    for _ in range(CHANGES_MAX):
        requests = _told_there(row, place)
        if not place or not requests:
            return place
        before = [_standing(request) for request in requests]
        items = [Item(request=request, url=address(request)) for request in requests]
        channel.send(Message(id=row.pk, kind=row.kind, items=items, recipient=row.recipient, place=place))
        if before == [_standing(request) for request in _told_there(row, place)]:
            break
    return place


def _catch_up(rows: Sequence[Notification], before: Sequence[object], now: datetime) -> None:
    """What was decided while the message was under way changes it: nobody could name its place until now."""
    channel = channels.named(rows[0].channel)
    if rows[0].kind != Kind.REQUEST or channel is None or not channel.takes(Kind.UPDATE):
        return
    requests = ApprovalRequest.objects.in_bulk([row.request_id for row in rows])
    for row, seen in zip(rows, before, strict=True):
        if _standing(requests[row.request_id]) != seen:
            change = Notification.objects.create(
                request_id=row.request_id,
                recipient=row.recipient,
                channel=row.channel,
                kind=Kind.UPDATE,
                not_before=now,
                published_at=now,
            )
            publish_all([change.pk])
            return


def _told_there(row: Notification, place: str) -> list[ApprovalRequest]:
    told = Notification.objects.filter(channel=row.channel, place=place, kind=Kind.REQUEST, state=State.SENT)
    ids = told.values_list("request", flat=True)
    found = ApprovalRequest.objects.filter(pk__in=list(ids)).select_related("approvers", "requester", "escalate_to")
    return list(found.order_by("created_at", "pk"))


def _standing(request: ApprovalRequest) -> tuple[object, ...]:
    votes = Vote.objects.filter(request=request).order_by("pk").values_list("pk", "withdrawn_at")
    return request.state, request.digest, tuple(votes)


def _place(row: Notification) -> str:
    """Where the message about the request stands, for this recipient."""
    told = Notification.objects.filter(
        request_id=row.request_id, channel=row.channel, recipient_id=row.recipient_id, kind=Kind.REQUEST
    )
    return told.filter(state=State.SENT).exclude(place="").values_list("place", flat=True).first() or ""


def address(request: ApprovalRequest) -> str:
    """The page of the request."""
    return f"{settings.PUBLIC_URL}{request.get_absolute_url()}"


def _wanted(row: Notification, now: datetime) -> bool:
    request = row.request
    if row.kind == Kind.UPDATE:
        return bool(_place(row))  # else the message is still to be sent, and will say what is so then
    if row.kind == Kind.OUTCOME:
        return request.state != PENDING
    return request.state == PENDING and request.expires_at > now and not _left(row)


def _left(row: Notification) -> bool:
    return row.recipient is not None and bool(refusal(row.request, row.recipient))


def _parts(row: Notification, now: datetime) -> Iterator[Notification]:
    """Claims what else waits to be told to the same reader and is alike."""
    channel, like = channels.named(row.channel), alike(row.request)
    if row.kind != Kind.REQUEST or like is None or channel is None or not channel.coalesces:
        return
    waiting = Notification.objects.select_related("request__approvers", "request__requester", "recipient").filter(
        like, channel=row.channel, recipient_id=row.recipient_id, kind=Kind.REQUEST, state=State.QUEUED
    )
    for one in waiting.filter(not_before__lte=now).exclude(pk=row.pk).order_by("not_before", "pk")[:PARTS_MAX]:
        if not _claim(one, now):
            continue
        if one.attempts > ATTEMPTS_MAX or not _wanted(one, now):
            _move(one, State.DROPPED)
            continue
        yield one


def _lead(one: Notification, row: Notification) -> Notification | None:
    return None if one is row else row


def _claim(row: Notification, now: datetime) -> bool:
    """Takes the row for the time that sending may need; `not_before` is when it counts as lost."""
    until = now + timedelta(seconds=min(RETRY_S * 2**row.attempts, RETRY_MAX_S))
    won = _held(row).filter(not_before=row.not_before).update(attempts=F("attempts") + 1, not_before=until)
    row.attempts += 1
    return bool(won)


def _held(row: Notification) -> QuerySet[Notification]:
    return Notification.objects.filter(pk=row.pk, state=State.QUEUED, attempts=row.attempts)


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


def _publish(notification_id: UUID) -> bool:
    """False: the broker did not take it."""
    try:
        current_app.send_task(TASK, args=[str(notification_id)], queue=QUEUE, ignore_result=True)
    except (KombuError, RedisError, OSError) as error:
        log.warning("approval.publish_failed", extra={"error": type(error).__name__})
        return False
    return True


_lanes: dict[str, threading.Lock] = defaultdict(threading.Lock)
_slow: set[str] = set()


@contextmanager
def _lane(channel: str) -> Iterator[bool]:
    """A process talks to one channel in one thread at a time, so that a dead server holds no more than that thread.

    False: another thread is at it, and has been for a while.
    """
    free = _lanes[channel].acquire(timeout=0 if channel in _slow else LANE_WAIT_S)
    if not free:
        _slow.add(channel)
        yield False
        return
    _slow.discard(channel)
    try:
        yield True
    finally:
        _lanes[channel].release()
