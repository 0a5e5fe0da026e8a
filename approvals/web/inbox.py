"""What waits for somebody, and what was decided."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from approvals import selectors
from approvals.models import ApprovalRequest
from approvals.web import base
from approvals.web.times import until
from tools.spec import Risk

MINE, RECENT = 100, 50
SOON_S = 900

Line = tuple[ApprovalRequest, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Requests that one rule asks about, the first to expire first. together: of the like ones that may be decided at
    once, the first; number: how many those are."""

    rule: str
    lines: list[Line]
    together: ApprovalRequest | None
    number: int


@base.page(*base.SAFE)
def inbox(http: HttpRequest) -> HttpResponse:
    """What waits for this user by rule, what waits for others of their teams, what was decided lately."""
    user, now = base.user_of(http), timezone.now()
    waiting = selectors.inbox(user)
    mine, number = list(selectors.lines(waiting)[:MINE]), waiting.count()
    seen = selectors.lines(selectors.visible(user)).exclude(pk__in=waiting.order_by().values("pk"))
    pending = ApprovalRequest.State.PENDING
    others = seen.filter(state=pending).order_by("expires_at")[:RECENT]
    recent = seen.exclude(state=pending).order_by("-decided_at")[:RECENT]
    context = {
        "mine": mine,
        "mine_number": number,
        "mine_more": max(0, number - len(mine)),
        "groups": grouped(mine, user, now),
        "others": [(one, until(one.expires_at, now)) for one in others],
        "recent": [(one, until(one.decided_at, now) if one.decided_at else "") for one in recent],
        **base.sections(http, "inbox"),
    }
    return render(http, "approvals/inbox.html", context)


def grouped(requests: Iterable[ApprovalRequest], user: User, now: datetime) -> list[Group]:
    """By rule, in the order of what expires first; questions stand by themselves."""
    found: dict[str, list[ApprovalRequest]] = {}
    for one in requests:
        found.setdefault(one.rule, []).append(one)
    return [_group(rule, members, now) for rule, members in found.items()]


def _group(rule: str, members: list[ApprovalRequest], now: datetime) -> Group:
    alike: dict[str, list[ApprovalRequest]] = {}
    for one in members:
        if one.risk == Risk.LOW and one.alike:
            alike.setdefault(one.alike, []).append(one)
    most = max(alike.values(), key=len, default=[])
    return Group(
        rule=rule,
        lines=[(one, until(one.expires_at, now)) for one in members],
        together=most[0] if len(most) > 1 else None,
        number=len(most),
    )
