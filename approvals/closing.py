"""The functions that write a request's state: one ends it, one opens an approved one again."""

from datetime import datetime, timedelta
from uuid import UUID

from approvals import hooks, notify
from approvals.errors import AlreadyDecided, NotFound
from approvals.models import ApprovalRequest
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

State = ApprovalRequest.State
# Ends that people or the clock bring about; whoever waits is told. The others come from whoever waits.
DECIDED = frozenset({State.APPROVED, State.DENIED, State.EXPIRED})


def target(request_id: UUID) -> Target:
    return Target(type="approval", id=str(request_id))


def locked(request_id: UUID | str) -> ApprovalRequest:
    """The request, locked until the transaction ends. Raises NotFound."""
    try:
        key = UUID(str(request_id))
    except ValueError:
        raise NotFound("There is no such request.") from None
    found = (
        ApprovalRequest.objects.select_for_update(of=("self",))
        .select_related("approvers", "escalate_to", "requester", "policy_version__policy")
        .filter(pk=key)
        .first()
    )
    if found is None:
        raise NotFound("There is no such request.")
    return found


def lock_subject(request_id: UUID | str) -> None:
    """Locks all requests about the same subject, in their order, for whoever will close more than this one."""
    try:
        key = UUID(str(request_id))
    except ValueError:
        return
    about = ApprovalRequest.objects.filter(pk=key).values_list("subject_type", "subject_id").first()
    if about is not None:
        all_of_it = ApprovalRequest.objects.filter(subject_type=about[0], subject_id=about[1])
        list(all_of_it.select_for_update(of=("self",)).order_by("pk").values_list("pk", flat=True))


def close(
    request: ApprovalRequest,
    state: State,
    *,
    actor: Actor,
    now: datetime,
    answer: str = "",
    was: State = State.PENDING,
) -> ApprovalRequest:
    """Moves the request from `was` to `state`, exactly once, inside the caller's transaction.

    Raises:
        AlreadyDecided: it is not in `was` any more; nothing is written.
    """
    runs = state == State.APPROVED and request.kind == ApprovalRequest.Kind.APPROVAL
    until = now + timedelta(seconds=request.execution_expires_s) if runs else None
    won = ApprovalRequest.objects.filter(pk=request.pk, state=was).update(
        state=state,
        decided_at=now,
        execution_expires_at=until or request.execution_expires_at,
        break_glass=request.break_glass,
        **({"answer": answer} if answer else {}),
    )
    if not won:
        current = ApprovalRequest.objects.values_list("state", flat=True).get(pk=request.pk)
        raise AlreadyDecided(f"This request is {current} already.", state=current)
    request.state, request.decided_at = state, now
    request.execution_expires_at = until or request.execution_expires_at
    request.answer = answer or request.answer
    notify.closed(request, now=now)
    record(
        Event.APPROVAL_CLOSED,
        actor=actor,
        target=target(request.pk),
        outcome=str(state),
        context={
            "kind": str(request.kind),
            "subject": f"{request.subject_type}:{request.subject_id}",
            "parent": request.parent_id,
            "digest": request.digest,
            "quorum": request.quorum,
            **({"break_glass": True} if request.break_glass else {}),
        },
        payload={"answer": answer} if answer else None,
    )
    if state in DECIDED:
        hooks.decided(request)
    return request


def reopen(request: ApprovalRequest, *, now: datetime) -> ApprovalRequest:
    """Makes an approved request pending again, exactly once, inside the caller's transaction, which records it.

    Raises:
        AlreadyDecided: it is not approved any more.
        TooLate: what was approved has begun.
    """
    won = ApprovalRequest.objects.filter(pk=request.pk, state=State.APPROVED).update(
        state=State.PENDING, decided_at=None, execution_expires_at=None
    )
    if not won:
        current = ApprovalRequest.objects.values_list("state", flat=True).get(pk=request.pk)
        raise AlreadyDecided(f"This request is {current}.", state=current)
    request.state, request.decided_at, request.execution_expires_at = State.PENDING, None, None
    hooks.taken_back(request, now)
    return request
