"""The one decision function: page, API, admin and command line all come here."""

from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.utils import timezone

from approvals.closing import State, close, locked, target
from approvals.eligibility import refusal
from approvals.errors import (
    AlreadyDecided,
    AlreadyVoted,
    DecisionError,
    InvalidReason,
    InvalidVerdict,
    NotEligible,
    ReasonMissing,
    RequestExpired,
)
from approvals.models import ApprovalRequest, Vote
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event

Verdict = Vote.Verdict
REASON_MAX = 4000
# Tries that are themselves facts, and stand in the log.
_RECORDED = (NotEligible, AlreadyDecided, AlreadyVoted, RequestExpired)


def decide(
    *, request_id: UUID | str, by: User, verdict: Vote.Verdict | str, reason: str, channel: str, now: datetime
) -> ApprovalRequest:
    """Counts one person's vote, and closes the request where that decides it. Gives the request as it stands then.

    A denial closes at once; an approval closes when `quorum` different people, each still eligible now, have
    approved; an answer closes a question. The request's row is locked, and the move is one conditional UPDATE, so of
    any number of people at once one wins. Must not be called inside a transaction: a refused try is recorded in one
    of its own.

    Raises:
        NotFound, NotEligible, AlreadyDecided, AlreadyVoted, RequestExpired, InvalidVerdict, ReasonMissing,
        InvalidReason
    """
    wanted = _verdict(verdict)
    words = _reason(reason)
    try:
        return _vote(request_id, by, wanted, words, channel, now)
    except _RECORDED as error:
        _record_refusal(request_id, by, wanted, channel, error)
        raise


def may_decide(
    request: ApprovalRequest, user: User | AnonymousUser, *, now: datetime | None = None
) -> tuple[bool, str]:
    """Would a vote of this user count, and if not, why, in a sentence for that user. What decides is `decide`."""
    if request.state != State.PENDING:
        return False, f"This request is {request.get_state_display().lower()}."
    if request.expires_at <= (now or timezone.now()):
        return False, "The time for this request is over."
    why = refusal(request, user)
    if not why and isinstance(user, User) and Vote.objects.filter(request=request, user=user).exists():
        why = "You have voted on this request."
    return not why, why


@transaction.atomic(durable=True)
def _vote(
    request_id: UUID | str, by: User, verdict: Vote.Verdict, reason: str, channel: str, now: datetime
) -> ApprovalRequest:
    request = locked(request_id)
    _fits(request, verdict)
    if request.state != State.PENDING:
        raise AlreadyDecided(f"This request is {request.get_state_display().lower()} already.", state=request.state)
    why = refusal(request, by)
    if why:
        raise NotEligible(why)
    if request.expires_at <= now:
        raise RequestExpired("The time for this request is over.")
    if Vote.objects.filter(request=request, user=by).exists():
        raise AlreadyVoted("You have voted on this request already.")
    if not reason and verdict != Verdict.APPROVE:
        raise ReasonMissing("Say why." if verdict == Verdict.DENY else "The answer is empty.")
    actor = Actor.user(by.pk)
    Vote.objects.create(request=request, user=by, verdict=verdict, reason=reason, channel=channel[:12], at=now)
    record(
        Event.APPROVAL_VOTED,
        actor=actor,
        target=target(request.pk),
        outcome=str(verdict),
        context={"channel": channel, "digest": request.digest},
        payload={"reason": reason} if reason else None,
    )
    if verdict == Verdict.DENY:
        return close(request, State.DENIED, actor=actor, now=now, answer=reason)
    if verdict == Verdict.ANSWER:
        return close(request, State.APPROVED, actor=actor, now=now, answer=reason)
    if approvals(request) >= request.quorum:
        return close(request, State.APPROVED, actor=actor, now=now)
    return request


def approvals(request: ApprovalRequest) -> int:
    """How many have approved who may still decide: a voter who has left the group since does not count."""
    votes = Vote.objects.filter(request=request, verdict=Verdict.APPROVE).select_related("user")
    return sum(1 for vote in votes if not refusal(request, vote.user))


def _fits(request: ApprovalRequest, verdict: Vote.Verdict) -> None:
    question = request.kind == ApprovalRequest.Kind.QUESTION
    if question != (verdict == Verdict.ANSWER):
        raise InvalidVerdict("A question is answered." if question else "An approval is approved or denied.")


def _verdict(given: Vote.Verdict | str) -> Vote.Verdict:
    try:
        return Verdict(given)
    except ValueError:
        raise InvalidVerdict(f"There is no verdict {given!r}.") from None


def _reason(given: str) -> str:
    words = given.strip()
    if len(words) > REASON_MAX:
        raise InvalidReason(f"At most {REASON_MAX} characters.")
    if "\x00" in words or any("\ud800" <= letter <= "\udfff" for letter in words):
        raise InvalidReason("The text holds characters that cannot be stored.")
    return words


@transaction.atomic(durable=True)
def _record_refusal(
    request_id: UUID | str, by: User, verdict: Vote.Verdict, channel: str, error: DecisionError
) -> None:
    record(
        Event.APPROVAL_REFUSED,
        actor=Actor.user(by.pk),
        target=target(UUID(str(request_id))),
        outcome=error.code,
        context={"verdict": str(verdict), "channel": channel},
    )
