"""Breaking the glass: an approval outside the rules, in an emergency, that somebody else must review afterwards."""

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet

from approvals import closing
from approvals.closing import State, target
from approvals.decisions import RECORDED, check_policy, checked_words, fresh, record_refusal
from approvals.eligibility import shut_out
from approvals.errors import (
    AlreadyDecided,
    AlreadyReviewed,
    InvalidVerdict,
    NotEligible,
    NotFound,
    ReasonMissing,
    RequestExpired,
    SecondFactorNeeded,
)
from approvals.executing import BREAK_GLASS
from approvals.models import ApprovalRequest, BreakGlass
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event

REASON_LEAST = 20  # characters: "fix prod" says nothing to a reviewer


def may_break(request: ApprovalRequest, user: User) -> tuple[bool, str]:
    """May this user approve the request in an emergency, and if not, why. Not who asked for it or took part."""
    why = shut_out(request, user)
    if not why and not user.has_perm(BREAK_GLASS):
        why = "Approving in an emergency takes the permission to break the glass."
    if not why and request.kind == ApprovalRequest.Kind.QUESTION:
        why = "A question is answered."
    return not why, why


def break_glass(
    *,
    request_id: UUID | str,
    by: User,
    reason: str,
    channel: str,
    now: datetime,
    second_factor_at: datetime | None = None,
) -> ApprovalRequest:
    """Approves a pending request without its quorum. Somebody else must review it within GLASS_REVIEW_S; until then it
    is shown to everybody who may review. Must not be called inside a transaction.

    Raises:
        NotFound, AlreadyDecided, RequestExpired, PolicyChanged, InvalidReason
        NotEligible: no such permission, or who asked for it or took part in it, superusers too.
        ReasonMissing: no reason, or one of a few letters.
        SecondFactorNeeded: where STEP_UP is on, always.
    """
    words = checked_words(reason)
    try:
        return _break(request_id, by, words, channel, now, second_factor_at)
    except RECORDED as error:
        record_refusal(request_id, by, "break_glass", channel, error)
        raise


@transaction.atomic(durable=True)
def review(
    *, glass_id: UUID | str, by: User, verdict: BreakGlass.Verdict | str, words: str, now: datetime
) -> BreakGlass:
    """Says whether it was justified, once. By somebody who may break the glass or is a superuser, and who neither broke
    it nor took part in the request.

    Raises:
        NotFound, NotEligible, AlreadyReviewed, InvalidVerdict, InvalidReason
        ReasonMissing: a review says why.
    """
    said = checked_words(words)
    if verdict not in {BreakGlass.Verdict.JUSTIFIED, BreakGlass.Verdict.UNJUSTIFIED}:
        raise InvalidVerdict("A review says justified or unjustified.")
    glass = BreakGlass.objects.select_for_update(of=("self",)).select_related("request").filter(pk=glass_id).first()
    if glass is None:
        raise NotFound("There is no such approval in an emergency.")
    why = _no_reviewer(glass, by)
    if why:
        raise NotEligible(why)
    if not said:
        raise ReasonMissing("Say why.")
    won = BreakGlass.objects.filter(pk=glass.pk, verdict=BreakGlass.Verdict.OPEN).update(
        verdict=verdict, reviewer=by, review=said, reviewed_at=now
    )
    if not won:
        raise AlreadyReviewed("Somebody has reviewed it already.")
    record(
        Event.GLASS_REVIEWED,
        actor=Actor.user(by.pk),
        target=target(glass.request_id),
        outcome=str(verdict),
        context={"glass": str(glass.pk), "late": now > glass.review_by},
        payload={"review": said},
    )
    glass.refresh_from_db()
    return glass


def to_review(user: User) -> QuerySet[BreakGlass]:
    """What waits for a review that this user may give, the first due first."""
    waiting = BreakGlass.objects.filter(verdict=BreakGlass.Verdict.OPEN).select_related("request", "user")
    if not user.is_active or not (user.is_superuser or user.has_perm(BREAK_GLASS)):
        return waiting.none()
    mine = {"request__requester": user}
    return (
        waiting.exclude(user=user)
        .exclude(**mine)
        .exclude(request__excluded_ids__contains=[user.pk])
        .order_by("review_by", "pk")
    )


def _no_reviewer(glass: BreakGlass, by: User) -> str:
    if by.pk == glass.user_id:
        return "Nobody reviews what they did themselves."
    why = shut_out(glass.request, by)
    if why:
        return why
    if not (by.is_superuser or by.has_perm(BREAK_GLASS)):
        return "Reviewing it takes the permission to break the glass."
    return ""


@transaction.atomic(durable=True)
def _break(
    request_id: UUID | str, by: User, reason: str, channel: str, now: datetime, second_factor_at: datetime | None
) -> ApprovalRequest:
    request = closing.locked(request_id)
    if request.state != State.PENDING:
        raise AlreadyDecided(f"This request is {request.get_state_display().lower()} already.", state=request.state)
    may, why = may_break(request, by)
    if not may:
        raise NotEligible(why)
    if request.expires_at <= now:
        raise RequestExpired("The time for this request is over.")
    if len(reason) < REASON_LEAST:
        raise ReasonMissing(f"Say in {REASON_LEAST} characters or more why this cannot wait.")
    check_policy(request)
    if settings.STEP_UP and not fresh(second_factor_at, now):
        raise SecondFactorNeeded("Breaking the glass takes a second factor, given just now.")
    BreakGlass.objects.create(
        request=request, user=by, reason=reason, at=now, review_by=now + timedelta(seconds=settings.GLASS_REVIEW_S)
    )
    record(
        Event.GLASS_BROKEN,
        actor=Actor.user(by.pk),
        target=target(request.pk),
        context={
            "channel": channel,
            "digest": request.digest,
            **({"second_factor_at": second_factor_at.isoformat()} if second_factor_at else {}),
        },
        payload={"reason": reason},
    )
    request.break_glass = True
    return closing.close(request, State.APPROVED, actor=Actor.user(by.pk), now=now)
