"""Changing a call that people are asked about: the new one is decided on anew."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction

from approvals import closing, hooks
from approvals.closing import State, target
from approvals.decisions import checked_words, record_refusal
from approvals.eligibility import refusal
from approvals.errors import (
    AlreadyDecided,
    DecisionError,
    InvalidEdit,
    NotEligible,
    RequestExpired,
    TooLate,
)
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event

_RECORDED = (AlreadyDecided, NotEligible, RequestExpired, TooLate)


def edit(
    *,
    request_id: UUID | str,
    by: User,
    arguments: Mapping[str, Any],
    reason: str,
    channel: str,
    now: datetime,
) -> ApprovalRequest:
    """Gives the call these arguments. The request is void with all its votes; the policies decide on the new call, and
    where they ask, a new request takes this one's place as soon as its preview is made. Whoever edits does not vote on
    it. Gives the request as it stands then. Must not be called inside a transaction.

    For whoever may decide the request, and its requester.

    Raises:
        NotFound, NotEligible, AlreadyDecided, RequestExpired, InvalidReason
        InvalidEdit: these are not other arguments that the tool takes.
        TooLate: it has begun, or cannot be edited.
    """
    words = checked_words(reason)
    try:
        return _edit(request_id, by, arguments, words, channel, now)
    except _RECORDED as error:
        record_refusal(request_id, by, "edit", channel, error)
        raise


def may_edit(request: ApprovalRequest, user: User, *, now: datetime) -> tuple[bool, str]:
    """Might an edit of this user's be taken, and if not, why."""
    try:
        _check(request, user, now)
    except DecisionError as error:
        return False, error.message
    return True, ""


@transaction.atomic(durable=True)
def _edit(
    request_id: UUID | str, by: User, arguments: Mapping[str, Any], reason: str, channel: str, now: datetime
) -> ApprovalRequest:
    closing.lock_subject(request_id)
    request = closing.locked(request_id)
    _check(request, by, now)
    if dict(arguments) == request.call["arguments"]:
        raise InvalidEdit("These are the arguments that it has.", field="arguments")
    hooks.edited(request, arguments, by, now)
    record(
        Event.APPROVAL_EDITED,
        actor=Actor.user(by.pk),
        target=target(request.pk),
        context={"channel": channel, "digest": request.digest},
        payload={"before": request.call["arguments"], "after": dict(arguments), "reason": reason},
    )
    request.refresh_from_db()
    if request.state == State.PENDING:
        raise InvalidEdit("Nothing here can be edited.", field="arguments")
    return request


def _check(request: ApprovalRequest, by: User, now: datetime) -> None:
    if request.kind == ApprovalRequest.Kind.QUESTION:
        raise InvalidEdit("A question is answered, not edited.")
    if request.state != State.PENDING:
        raise AlreadyDecided(f"This request is {request.get_state_display().lower()} already.", state=request.state)
    if request.expires_at <= now:
        raise RequestExpired("The time for this request is over.")
    why = "" if by.is_active and by.pk == request.requester_id else refusal(request, by, now=now)
    if why:
        raise NotEligible(why)
