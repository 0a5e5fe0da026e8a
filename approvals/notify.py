"""Who is told of what, as rows in the transaction of what they tell (see `approvals.outbox` for how they are sent).

Of one job nobody gets more than MESSAGES_MAX requests in MESSAGES_WINDOW_S, and of all jobs no more than PERSON_MAX
messages: the rest is dropped, and the inbox shows it. What is like a request that a person was just told of waits for
COALESCE_S, and goes out in one message with what came meanwhile.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from copy import copy
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet

from approvals import channels
from approvals.channels.base import Channel, Kind
from approvals.eligibility import eligible_users
from approvals.models import ApprovalRequest, Notification, Vote
from approvals.outbox import ATTEMPTS_MAX, QUEUE, REPUBLISH_S, TASK, alike, deliver, deliver_due, publish_all

__all__ = ["ATTEMPTS_MAX", "QUEUE", "REPUBLISH_S", "TASK", "closed", "deliver", "deliver_due", "queue", "voted"]
log = logging.getLogger(__name__)

# A job that asks and asks, on its own or talked into it, fills the inbox and not the mail of whoever decides.
MESSAGES_MAX, MESSAGES_WINDOW_S = 20, 3600
PERSON_MAX = 60  # in the same window
COALESCE_S = 60
State = Notification.State
_OF_JOB = "Enough messages about this job for now: the inbox shows the request."
_OF_ALL = "Enough messages for now: the inbox shows the request."


def queue(request: ApprovalRequest, *, now: datetime, kind: str = Kind.REQUEST) -> list[Notification]:
    """Queues a message of this kind (request, reminder, escalation) to everybody whom it concerns, in each channel.

    A reminder goes to those who have not voted, an escalation to the group that may decide from now on.
    Inside the caller's transaction; the tasks are published after its commit.
    """
    people = list(_people(request, kind, now))
    rows = _put(request, kind, people, channels.active(), now=now)
    if not rows and kind == Kind.REQUEST:
        log.warning("approval.nobody_to_tell", extra={"approval": str(request.pk)})
    return rows


def closed(request: ApprovalRequest, *, now: datetime) -> None:
    """The request has ended: what waits to be sent about it is dropped, messages that stand are changed, and its
    requester learns what people, or the clock, made of it. In the closing transaction."""
    waiting = Notification.objects.filter(request=request, state=State.QUEUED).exclude(kind=Kind.UPDATE)
    waiting.update(state=State.DROPPED)
    update(request, now=now)
    own = Vote.objects.filter(request=request, user=request.requester).exists()  # who answered their own question
    if not own and request.state not in (ApprovalRequest.State.CANCELLED, ApprovalRequest.State.VOID):
        _put(request, Kind.OUTCOME, [request.requester], channels.active(), now=now)


def voted(request: ApprovalRequest, *, now: datetime) -> None:
    """Somebody has voted, or taken a vote back: messages that stand are changed. In the voting transaction."""
    update(request, now=now)


def update(request: ApprovalRequest, *, now: datetime) -> None:
    """Queues a change of every message about the request that stands in a channel which can change it."""
    told = Notification.objects.filter(request=request, kind=Kind.REQUEST).exclude(state=State.DROPPED)
    names = [channel.name for channel in channels.active() if channel.takes(Kind.UPDATE)]
    places = told.filter(channel__in=names).values_list("channel", "recipient_id").distinct() if names else []
    _insert(
        [
            Notification(request=request, recipient_id=recipient_id, channel=name, kind=Kind.UPDATE, not_before=now)
            for name, recipient_id in places
        ],
        now=now,
    )


def _people(request: ApprovalRequest, kind: str, now: datetime) -> QuerySet[User]:
    if kind == Kind.REMINDER and request.escalated_at == now:  # the next group gets a message of its own
        request = copy(request)
        request.escalated_at = None
    people = eligible_users(request, now=now).order_by("pk")
    if kind == Kind.REMINDER:
        return people.exclude(pk__in=Vote.objects.filter(request=request, withdrawn_at=None).values("user"))
    if kind == Kind.ESCALATION:
        return people.filter(Q(groups=request.escalate_to_id)).distinct()
    return people


def _put(
    request: ApprovalRequest, kind: str, people: Iterable[User], into: Iterable[Channel], *, now: datetime
) -> list[Notification]:
    rows = []
    for channel in into:
        if not channel.takes(kind):
            continue
        whom = [user for user in people if channel.reaches(user)] if channel.personal else [None]
        rows += [
            Notification(request=request, recipient=user, channel=channel.name, kind=kind, not_before=now)
            for user in whom
        ]
    if not rows:
        return []
    of_job, of_all = _lately(request, rows, now)
    for row in rows:
        whose = (row.channel, row.recipient_id)
        if kind == Kind.REQUEST and of_job[whose] >= MESSAGES_MAX:
            row.state, row.error = State.DROPPED, _OF_JOB
        elif row.recipient_id is not None and of_all[whose] >= PERSON_MAX:
            row.state, row.error = State.DROPPED, _OF_ALL
        elif kind == Kind.REQUEST:
            row.not_before = _when(row, now)
    return _insert(rows, now=now)


def _insert(rows: list[Notification], *, now: datetime) -> list[Notification]:
    due = [row for row in rows if row.state == State.QUEUED and row.not_before <= now]
    for row in due:
        row.published_at = now
    Notification.objects.bulk_create(rows)
    ids = [row.pk for row in due]
    if ids:
        transaction.on_commit(lambda: publish_all(ids))
    return rows


Told = Counter[tuple[str, int | None]]


def _lately(request: ApprovalRequest, rows: Iterable[Notification], now: datetime) -> tuple[Told, Told]:
    """How many messages each (channel, recipient) got or will get of the last while: about the request's job, and in
    all (people only)."""
    since = now - timedelta(seconds=MESSAGES_WINDOW_S)
    told = Notification.objects.filter(part_of=None).exclude(state=State.DROPPED).exclude(kind=Kind.UPDATE)
    asks = any(row.kind == Kind.REQUEST for row in rows)
    of_job = told.filter(request__parent_id=request.parent_id, request__created_at__gt=since, kind=Kind.REQUEST)
    people = {row.recipient_id for row in rows if row.recipient_id is not None}
    recent = Q(sent_at__gt=since) | Q(sent_at=None, state=State.QUEUED)
    of_all = told.filter(recent, recipient__in=people)
    whose = ("channel", "recipient_id")
    in_job: Told = Counter(of_job.values_list(*whose)) if asks else Counter()
    return in_job, Counter(of_all.values_list(*whose)) if people else Counter()


def _when(row: Notification, now: datetime) -> datetime:
    """When the message about a request goes out: at once, unless its reader was just told of one like it."""
    channel = channels.named(row.channel)
    if channel is None or not channel.coalesces or not alike(row.request):
        return now
    since = now - timedelta(seconds=COALESCE_S)
    like = Notification.objects.filter(alike(row.request), channel=row.channel, recipient_id=row.recipient_id)
    like = like.filter(kind=Kind.REQUEST, request__created_at__gt=since).exclude(state=State.DROPPED)
    last = like.order_by("-not_before").values_list("state", "not_before", "request__created_at").first()
    if last is None:
        return now
    state, not_before, _ = last
    if state == State.QUEUED and not_before > now:  # others wait already: with them
        return not_before
    return now + timedelta(seconds=COALESCE_S)
