"""Asking back: a question about a request, answered by the agent that asks or by its requester. The clock goes on."""

from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction

from approvals import closing, hooks
from approvals.closing import State, target
from approvals.decisions import checked_words
from approvals.eligibility import refusal
from approvals.errors import AlreadyDecided, NotEligible, NotFound, ReasonMissing
from approvals.models import ApprovalRequest, Comment
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event

OPEN_MAX = 5  # unanswered of one request: each costs a model's turn
OPEN, ANSWERED, FAILED = Comment.State.OPEN, Comment.State.ANSWERED, Comment.State.FAILED
BY_AGENT = "agent:"


@transaction.atomic(durable=True)
def ask_back(*, request_id: UUID | str, by: User, text: str, channel: str, now: datetime) -> Comment:
    """Asks whoever proposed the call; the request stays pending, and expires when it does. Where an agent proposed it,
    that answers in a step of its own which the policies let through as any other; else the requester does.

    Raises:
        NotFound, NotEligible, AlreadyDecided, InvalidReason
        ReasonMissing: no words.
    """
    words = checked_words(text)
    request = closing.locked(request_id)
    if request.state != State.PENDING or request.kind == ApprovalRequest.Kind.QUESTION:
        raise AlreadyDecided(f"This request is {request.get_state_display().lower()}.", state=request.state)
    why = refusal(request, by, now=now)
    if why:
        raise NotEligible(why)
    if not words:
        raise ReasonMissing("Say what you want to know.")
    if Comment.objects.filter(request=request, state=OPEN).count() >= OPEN_MAX:
        raise NotEligible(f"{OPEN_MAX} questions wait for an answer already.")
    comment = Comment.objects.create(request=request, user=by, text=words, channel=channel[:12], at=now)
    given = hooks.asked_back(comment, now)
    record(
        Event.APPROVAL_ASKED_BACK,
        actor=Actor.user(by.pk),
        target=target(request.pk),
        context={"channel": channel, "comment": str(comment.pk), "to": "agent" if given else "requester"},
        payload={"text": words},
    )
    return comment


@transaction.atomic
def answer(*, comment_id: UUID | str, text: str, answered_by: User | str, now: datetime) -> Comment:
    """Answers a question, once. answered_by: the requester, or the agent as `agent:NAME`.

    Raises:
        NotFound
        NotEligible: a user who is not the requester.
        AlreadyDecided: it was answered before.
        ReasonMissing, InvalidReason
    """
    words = checked_words(text)
    comment = _locked(comment_id)
    if isinstance(answered_by, User):
        if answered_by.pk != comment.request.requester_id or not answered_by.is_active:
            raise NotEligible("Whose request it is answers, or the agent.")
        who, actor = f"user:{answered_by.pk}", Actor.user(answered_by.pk)
    else:
        name = answered_by.removeprefix(BY_AGENT)
        who, actor = f"{BY_AGENT}{name}", Actor.agent(name, on_behalf_of=comment.request.requester_id)
    if not words:
        raise ReasonMissing("The answer is empty.")
    return _close(comment, ANSWERED, words, who, actor, now)


@transaction.atomic
def fail(*, comment_id: UUID | str, why: str, now: datetime) -> Comment:
    """The agent could not answer; the requester still can. Raises NotFound."""
    comment = _locked(comment_id)
    Comment.objects.filter(pk=comment.pk, state=OPEN).update(state=FAILED, answer=why[:500])
    comment.refresh_from_db()
    return comment


def _locked(comment_id: UUID | str) -> Comment:
    found = Comment.objects.select_for_update(of=("self",)).select_related("request").filter(pk=comment_id).first()
    if found is None:
        raise NotFound("There is no such question.")
    return found


def _close(comment: Comment, state: str, text: str, who: str, actor: Actor, now: datetime) -> Comment:
    won = (
        Comment.objects.filter(pk=comment.pk)
        .exclude(state=ANSWERED)
        .update(state=state, answer=text, answered_by=who[:200], answered_at=now)
    )
    if not won:
        raise AlreadyDecided("This question was answered already.", state=str(comment.state))
    record(
        Event.APPROVAL_ANSWERED,
        actor=actor,
        target=target(comment.request_id),
        context={"comment": str(comment.pk)},
        payload={"text": text},
    )
    comment.refresh_from_db()
    return comment
