"""What the page of a request shows, put together for its template."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User

from approvals.decisions import REASON_MAX, approvals, may_decide
from approvals.models import ApprovalRequest, Vote
from approvals.visible import hidden, strangers
from approvals.web.deciders import Deciders, deciders
from approvals.web.preview import parts
from approvals.web.times import until

INLINE_MAX = 120
OPEN_LINES, OPEN_CHARACTERS = 40, 4000

State = ApprovalRequest.State


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of the call. text: complete; words: text as it is (else JSON); folded: long, shown on a click."""

    name: str
    text: str
    words: bool
    folded: bool
    size: str


def describe(request: ApprovalRequest, user: User, *, now: datetime) -> dict[str, Any]:
    """Everything but what changes while one reads (see `status`)."""
    may, why_not = may_decide(request, user, now=now)
    context = request.context
    return {
        "request": request,
        "question": request.kind == ApprovalRequest.Kind.QUESTION,
        "pending": request.state == State.PENDING,
        "may_decide": may,
        "why_not": why_not,
        "reason_max": REASON_MAX,
        "arguments": [argument(name, value) for name, value in request.call.get("arguments", {}).items()],
        "target_state": _json(request.call["target_state"]) if request.call.get("target_state") else "",
        "hidden_count": sum(map(hidden, request.command)),
        "strangers": strangers(request.command),
        "preview_parts": parts(request.preview) if request.preview else [],
        "preview_age": until(request.preview_at, now) if request.preview_at else "",
        "agent": context.get("agent", ""),
        "repository": context.get("repository", ""),
        "goal": context.get("goal", ""),
        "agent_reason": context.get("reason", ""),
        "requester": request.requester.get_username(),
        "parent_path": request.parent_path if _local(request.parent_path) else "",
        **status(request, user, now=now),
    }


def status(request: ApprovalRequest, user: User, *, now: datetime) -> dict[str, Any]:
    """What changes while one reads: state, votes, time left."""
    votes = list(Vote.objects.filter(request=request).select_related("user").order_by("at"))
    pending = request.state == State.PENDING
    overdue = pending and request.expires_at <= now
    people = deciders(request, user) if pending else Deciders(number=0)
    return {
        "request": request,
        "pending": pending,
        "question": request.kind == ApprovalRequest.Kind.QUESTION,
        "overdue": overdue,
        "expires": until(request.expires_at, now),
        "votes": votes,
        "approvals": approvals(request),
        "deciders": people,
        "stuck": people.stuck if not overdue else "",
        "others": people.others if not overdue else "",
        "decided": until(request.decided_at, now) if request.decided_at else "",
    }


def argument(name: str, value: Any) -> Argument:
    """Long strings and strings of several lines are shown as they are, everything else as JSON."""
    words = isinstance(value, str) and ("\n" in value or len(value) > INLINE_MAX)
    text = value if words else _json(value)
    lines = text.count("\n") + 1
    return Argument(
        name=name,
        text=text,
        words=words,
        folded=lines > OPEN_LINES or len(text) > OPEN_CHARACTERS,
        size=f"{lines} line{'s' if lines != 1 else ''}, {len(text):,} characters",
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _local(path: str) -> bool:
    return path.startswith("/") and not path.startswith(("//", "/\\"))
