"""What the page of a request shows, put together for its template."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest

from approvals import changes, editing, glass, granting, selectors, taking_back
from approvals.batch import alike
from approvals.decisions import REASON_MAX, may_decide, needs_second_factor
from approvals.eligibility import refusal
from approvals.models import ApprovalRequest, BreakGlass, Comment, Vote
from approvals.quorum import standing
from approvals.visible import hidden, strangers
from approvals.web import base, second_factor
from approvals.web.deciders import Deciders, deciders
from approvals.web.preview import argument_text, parts
from approvals.web.times import span, until
from tools.spec import Risk

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


def describe(http: HttpRequest, request: ApprovalRequest, user: User, *, now: datetime) -> dict[str, Any]:
    """Everything but what changes while one reads (see `status`)."""
    may, why_not = may_decide(request, user, now=now)
    context = request.context
    approval = request.kind == ApprovalRequest.Kind.APPROVAL
    asks = needs_second_factor(request)
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
        "reason_by_agent": context.get("by_agent", True),
        **origin(context.get("provenance")),
        "requester": request.requester.get_username(),
        "parent_path": request.parent_path if _local(request.parent_path) else "",
        "factor": second_factor.needed(http, asks and may, request.get_absolute_url()),
        "factor_off": approval and not settings.STEP_UP and (request.second_factor or request.risk == Risk.HIGH),
        "may_take_back": taking_back.may_take_back(request, user),
        "may_edit": approval and editing.may_edit(request, user, now=now)[0],
        "may_grant": may and not granting.why_not(request),
        "may_break": approval and request.state == State.PENDING and glass.may_break(request, user)[0],
        "together": len(alike(request, user, now)) if may and approval else 0,
        "blast": touched(request),
        "constraints": _json(request.call["constraints"]) if request.call.get("constraints") else "",
        "executes_within": span(request.execution_expires_s),
        **conversation(request, user, now=now),
        **before_and_after(request, user),
        **status(request, user, now=now),
    }


def origin(given: Any) -> dict[str, Any]:
    """Where the call comes from, where a policy asked: was it planned, and which of its values are from what others wrote."""
    said = given if isinstance(given, dict) else {}
    tainted = said.get("tainted")
    return {
        "unplanned": bool(said) and said.get("unplanned") is True,
        "tainted": [one for one in tainted if isinstance(one, dict)] if isinstance(tainted, list) else [],
        "untold": bool(said) and (said.get("unplanned") is None or tainted is None),
    }


def touched(request: ApprovalRequest) -> list[tuple[str, Any]]:
    """What it touches, in counts: as was said when it was asked, else as its preview shows."""
    if request.blast:
        return [(name.replace("_", " "), value) for name, value in request.blast.items() if value not in ("", None)]
    files = [part for part in parts(request.preview) if part.name] if request.preview else []
    counts = [
        ("files", len(files)),
        ("lines added", sum(part.added for part in files)),
        ("lines removed", sum(part.removed for part in files)),
    ]
    return [(name, number) for name, number in counts if number]


def conversation(request: ApprovalRequest, user: User, *, now: datetime) -> dict[str, Any]:
    """Questions about the request with their answers, and what this user may add."""
    open_ = request.state == State.PENDING and request.expires_at > now
    approval = request.kind == ApprovalRequest.Kind.APPROVAL
    return {
        "comments": Comment.objects.filter(request=request).select_related("user") if approval else [],
        "may_ask": approval and open_ and not refusal(request, user, now=now),
        "may_answer": user.pk == request.requester_id,
        "by_agent": bool(request.context.get("agent")),
    }


def before_and_after(request: ApprovalRequest, user: User) -> dict[str, Any]:
    """The request that this one stands for now, and the one that stands for this: where this user sees them."""
    seen = selectors.visible(user)
    old = seen.filter(pk=request.replaces_id).first() if request.replaces_id else None
    later = base.newer(request)
    return {
        "older": old,
        "newer": later if later is not None and seen.filter(pk=later.pk).exists() else None,
        "preview_changes": "\n".join(changes.preview_diff(old, request)) if old is not None else "",
    }


def status(request: ApprovalRequest, user: User, *, now: datetime) -> dict[str, Any]:
    """What changes while one reads: state, votes, time left."""
    votes = list(Vote.objects.filter(request=request).select_related("user", "on_behalf_of").order_by("at"))
    stands = [vote for vote in votes if vote.withdrawn_at is None]
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
        "stands": stands,
        "standing": standing(request),
        "glass": BreakGlass.objects.filter(request=request).select_related("user", "reviewer").first(),
        "executes_until": until(request.execution_expires_at, now) if request.execution_expires_at else "",
        "deciders": people,
        "stuck": people.stuck if not overdue else "",
        "others": people.others if not overdue else "",
        "decided": until(request.decided_at, now) if request.decided_at else "",
    }


def argument(name: str, value: Any) -> Argument:
    """Long strings and strings of several lines are shown as they are, everything else as JSON."""
    text, words = argument_text(value)
    if words and "\n" not in value and len(value) <= INLINE_MAX:
        text, words = _json(value), False
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
