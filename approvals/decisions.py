"""The one decision function: page, API, admin, command line, Slack, batches and grants all come here.

What ends a request otherwise (expiry, cancelling, an edit, breaking the glass) moves it by the same conditional UPDATE
(`approvals.closing`), so of everything that happens to a request at once, one thing does.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.utils import timezone

from approvals import notify
from approvals.closing import State, close, locked, target
from approvals.eligibility import own_refusal, person_for, refusal
from approvals.errors import (
    AlreadyDecided,
    AlreadyVoted,
    DecisionError,
    InvalidReason,
    InvalidVerdict,
    NotEligible,
    PolicyChanged,
    ReasonMissing,
    RequestExpired,
    SecondFactorNeeded,
)
from approvals.models import ApprovalRequest, PolicyVersion, Vote
from approvals.quorum import standing
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event
from tools.spec import Risk

Verdict = Vote.Verdict
REASON_MAX = 4000
CLOCKS_DIFFER_S = 5
# Tries that are themselves facts, and stand in the log.
RECORDED = (NotEligible, AlreadyDecided, AlreadyVoted, RequestExpired, SecondFactorNeeded, PolicyChanged)


def decide(
    *,
    request_id: UUID | str,
    by: User,
    verdict: Vote.Verdict | str,
    reason: str,
    channel: str,
    now: datetime,
    second_factor_at: datetime | None = None,
    behind: Sequence[int] = (),
) -> ApprovalRequest:
    """Counts one person's vote, and closes the request where that decides it. Gives the request as it stands then.

    A denial closes at once; an approval closes when every role has its number of different people, each still
    eligible now (`approvals.quorum`); an answer closes a question. A deputy's vote is the vote of the person whose
    place it takes. The request's row is locked, and the move is one conditional UPDATE, so of any number of people at
    once one wins. second_factor_at: when `by` last gave a second factor, as the channel knows it; behind: users
    (primary keys) who could have acted as `by`, such as the maker of the token: none of them may have had a part in the
    request. Must not be called
    inside a transaction: a refused try is recorded in one of its own.

    Raises:
        NotFound, NotEligible, AlreadyDecided, AlreadyVoted, RequestExpired, InvalidVerdict, ReasonMissing,
        InvalidReason, SecondFactorNeeded, PolicyChanged
    """
    wanted = _verdict(verdict)
    words = checked_words(reason)
    try:
        with transaction.atomic(durable=True):
            return vote(request_id, by, wanted, words, channel, now, second_factor_at=second_factor_at, behind=behind)
    except RECORDED as error:
        record_refusal(request_id, by, str(wanted), channel, error)
        raise


def may_decide(
    request: ApprovalRequest, user: User | AnonymousUser, *, now: datetime | None = None
) -> tuple[bool, str]:
    """Would a vote of this user count, and if not, why, in a sentence for that user. What decides is `decide`.

    A second factor that is missing is no reason here: the channel asks for it (`needs_second_factor`).
    """
    now = now or timezone.now()
    if request.state != State.PENDING:
        return False, f"This request is {request.get_state_display().lower()}."
    if request.expires_at <= now:
        return False, "The time for this request is over."
    why = refusal(request, user, now=now)
    if not why and isinstance(user, User):
        try:
            _person(request, user, now)
        except AlreadyVoted as error:
            why = error.message
    return not why, why


def needs_second_factor(request: ApprovalRequest) -> bool:
    """Does approving it take a fresh second factor? Of high risk always, else where its rule says so."""
    asks = request.kind == ApprovalRequest.Kind.APPROVAL
    return bool(settings.STEP_UP) and asks and (request.second_factor or request.risk == Risk.HIGH)


def vote(
    request_id: UUID | str,
    by: User,
    verdict: Vote.Verdict,
    reason: str,
    channel: str,
    now: datetime,
    *,
    second_factor_at: datetime | None = None,
    behind: Sequence[int] = (),
) -> ApprovalRequest:
    """As `decide`, inside the caller's transaction, which records nothing where it is refused."""
    request = locked(request_id)
    _fits(request, verdict)
    if request.state != State.PENDING:
        raise AlreadyDecided(f"This request is {request.get_state_display().lower()} already.", state=request.state)
    why = refusal(request, by, now=now) or _hidden_part(request, behind)
    if why:
        raise NotEligible(why)
    if request.expires_at <= now:
        raise RequestExpired("The time for this request is over.")
    person = _person(request, by, now)
    if not reason and verdict != Verdict.APPROVE:
        raise ReasonMissing("Say why." if verdict == Verdict.DENY else "The answer is empty.")
    if verdict == Verdict.APPROVE:
        check_policy(request)
        check_second_factor(request, second_factor_at, now)
    actor = Actor.user(by.pk)
    Vote.objects.create(
        request=request,
        user=by,
        on_behalf_of=person,
        verdict=verdict,
        reason=reason,
        channel=channel[:12],
        at=now,
        second_factor_at=second_factor_at,
    )
    record(
        Event.APPROVAL_VOTED,
        actor=actor,
        target=target(request.pk),
        outcome=str(verdict),
        context={
            "channel": channel,
            "digest": request.digest,
            **({"on_behalf_of": str(person.pk)} if person else {}),
            **({"second_factor_at": second_factor_at.isoformat()} if second_factor_at else {}),
        },
        payload={"reason": reason} if reason else None,
    )
    if verdict == Verdict.DENY:
        return close(request, State.DENIED, actor=actor, now=now, answer=reason)
    if verdict == Verdict.ANSWER:
        return close(request, State.APPROVED, actor=actor, now=now, answer=reason)
    if standing(request).complete:
        return close(request, State.APPROVED, actor=actor, now=now)
    notify.voted(request, now=now)
    return request


def approvals(request: ApprovalRequest) -> int:
    """How many approvals count now: a voter who has left the group since does not, nor one whose role is filled."""
    return standing(request).have


def check_policy(request: ApprovalRequest) -> None:
    """Raises PolicyChanged where the version that asked is in force no more."""
    version = request.policy_version
    if version is not None and version.status != PolicyVersion.Status.PUBLISHED:
        raise PolicyChanged(f"The policy has changed since {version} asked: this call is decided on anew.")


def check_second_factor(request: ApprovalRequest, given_at: datetime | None, now: datetime) -> None:
    """Raises SecondFactorNeeded where approving takes one, and none was given within STEP_UP_FRESH_S."""
    if needs_second_factor(request) and not fresh(given_at, now):
        raise SecondFactorNeeded("Approving this takes a second factor, given just now: use the page of the request.")


def fresh(given_at: datetime | None, now: datetime) -> bool:
    """Was a second factor given within STEP_UP_FRESH_S? One of the future is none, but for what clocks may differ."""
    longest = timedelta(seconds=settings.STEP_UP_FRESH_S)
    return given_at is not None and now - longest <= given_at <= now + timedelta(seconds=CLOCKS_DIFFER_S)


def checked_words(given: str) -> str:
    """Reasons and answers as they are stored. Raises InvalidReason."""
    words = given.strip()
    if len(words) > REASON_MAX:
        raise InvalidReason(f"At most {REASON_MAX} characters.")
    if "\x00" in words or any("\ud800" <= letter <= "\udfff" for letter in words):
        raise InvalidReason("The text holds characters that cannot be stored.")
    return words


@transaction.atomic(durable=True)
def record_refusal(request_id: UUID | str, by: User, what: str, channel: str, error: DecisionError) -> None:
    """A try that was refused stands in the log, in a transaction of its own."""
    record(
        Event.APPROVAL_REFUSED,
        actor=Actor.user(by.pk),
        target=target(UUID(str(request_id))),
        outcome=error.code,
        context={"verdict": what, "channel": channel},
    )


def _person(request: ApprovalRequest, by: User, now: datetime) -> User | None:
    """In whose place `by` votes, None: in their own. Raises AlreadyVoted where all that they could say is said."""
    votes = Vote.objects.filter(request=request, withdrawn_at=None)
    if votes.filter(user=by).exists():
        raise AlreadyVoted("You have voted on this request.")
    voted = set(votes.exclude(on_behalf_of=None).values_list("on_behalf_of_id", flat=True))
    if not own_refusal(request, by):
        if by.pk in voted:
            raise AlreadyVoted("Your deputy has voted on this request in your place.")
        return None
    voted |= set(votes.filter(on_behalf_of=None).values_list("user_id", flat=True))
    person = person_for(request, by, now=now, voted=sorted(voted))
    if person is None:
        raise AlreadyVoted("The person whose deputy you are has voted on this request.")
    return person


def _hidden_part(request: ApprovalRequest, behind: Sequence[int]) -> str:
    if any(user == request.requester_id or user in request.excluded_ids for user in behind):
        return "Who made this token took part in this request, so it decides nothing here."
    return ""


def _fits(request: ApprovalRequest, verdict: Vote.Verdict) -> None:
    question = request.kind == ApprovalRequest.Kind.QUESTION
    if question != (verdict == Verdict.ANSWER):
        raise InvalidVerdict("A question is answered." if question else "An approval is approved or denied.")


def _verdict(given: Vote.Verdict | str) -> Vote.Verdict:
    try:
        return Verdict(given)
    except ValueError:
        raise InvalidVerdict(f"There is no verdict {given!r}.") from None
