"""Taking an approval back, until what was approved has begun."""

from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet

from approvals import closing, notify
from approvals.closing import State, target
from approvals.decisions import record_refusal
from approvals.errors import AlreadyDecided, NothingToTakeBack, TooLate
from approvals.models import ApprovalRequest, Vote
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event

_RECORDED = (AlreadyDecided, NothingToTakeBack, TooLate)


def take_back(*, request_id: UUID | str, by: User, channel: str, now: datetime) -> ApprovalRequest:
    """Withdraws this person's approval. Where it had closed the request, that is pending again, and what it let
    through waits again, at once and against the claim of the same moment: one of the two wins.

    Others' approvals stand. A denial was told to the agent and cannot be taken back. Must not be called inside a
    transaction.

    Raises:
        NotFound
        NothingToTakeBack: `by` has no approval on it.
        AlreadyDecided: it was denied, expired, cancelled or void meanwhile.
        TooLate: what was approved has begun.
    """
    try:
        return _take_back(request_id, by, channel, now)
    except _RECORDED as error:
        record_refusal(request_id, by, "take_back", channel, error)
        raise


def may_take_back(request: ApprovalRequest, user: User) -> bool:
    """Is there an approval of this user's that might still be taken back? Whether it has begun, `take_back` says."""
    if request.kind == ApprovalRequest.Kind.QUESTION or request.state not in {State.PENDING, State.APPROVED}:
        return False
    return _own(request, user).exists()


@transaction.atomic(durable=True)
def _take_back(request_id: UUID | str, by: User, channel: str, now: datetime) -> ApprovalRequest:
    request = closing.locked(request_id)
    own = _own(request, by).first()
    if own is None:
        raise NothingToTakeBack("You have not approved this request.")
    was = State(request.state)
    if was not in {State.PENDING, State.APPROVED}:
        raise AlreadyDecided(f"This request is {request.get_state_display().lower()} already.", state=request.state)
    Vote.objects.filter(pk=own.pk).update(withdrawn_at=now)
    record(
        Event.APPROVAL_TAKEN_BACK,
        actor=Actor.user(by.pk),
        target=target(request.pk),
        outcome="reopened" if was == State.APPROVED else "withdrawn",
        context={"channel": channel, "digest": request.digest, "vote": str(own.pk)},
    )
    if was == State.APPROVED:
        closing.reopen(request, now=now)
    notify.voted(request, now=now)
    return request


def _own(request: ApprovalRequest, user: User) -> QuerySet[Vote]:
    return Vote.objects.filter(request=request, user=user, verdict=Vote.Verdict.APPROVE, withdrawn_at=None)
