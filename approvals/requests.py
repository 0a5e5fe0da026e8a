"""Asking people: requests are opened, and taken back, inside the transaction of whoever asks."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from approvals import hooks, notify
from approvals.closing import State, close, target
from approvals.eligibility import eligible_users
from approvals.models import ApprovalRequest
from approvals.policy.evaluate import Decision
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event
from tools.spec import Call, Risk, RiskScore

QUESTION_EXPIRES_S = 7 * 86_400
TITLE_MAX = 300


def open_request(
    *,
    decision: Decision,
    subject_type: str,
    subject_id: str,
    parent_id: str,
    parent_path: str,
    title: str,
    command: str,
    call: Call,
    preview: str,
    risk: RiskScore,
    context: Mapping[str, Any],
    requester_id: int,
    excluded_ids: Iterable[int],
    now: datetime,
    actor: Actor,
) -> ApprovalRequest:
    """Asks the approvers of `decision` about exactly this call; messages go out after the caller's commit.

    Raises:
        django.db.IntegrityError: the subject has a pending request already.
    """
    request = ApprovalRequest.objects.create(
        kind=ApprovalRequest.Kind.APPROVAL,
        subject_type=subject_type,
        subject_id=subject_id,
        parent_id=parent_id,
        parent_path=parent_path,
        title=_bounded(title),
        command=_storable(command),
        call=_call_json(call),
        digest=call.digest(),
        preview=_storable(preview),
        preview_at=now,
        risk=str(risk.level),
        risk_reasons=list(risk.reasons),
        context=dict(context),
        policy_version_id=decision.policy_version_id,
        rule=decision.rule,
        rule_reason=decision.reason[:500],
        approvers_id=decision.approvers_id,
        quorum=decision.quorum,
        requester_id=requester_id,
        excluded_ids=sorted({requester_id, *excluded_ids}),
        created_at=now,
        expires_at=now + timedelta(seconds=decision.expires_s),
    )
    _asked(request, policy=decision.policy, actor=actor, now=now)
    return request


def open_question(
    *,
    subject_type: str,
    subject_id: str,
    parent_id: str,
    parent_path: str,
    question: str,
    context: Mapping[str, Any],
    requester_id: int,
    approvers_id: int | None,
    now: datetime,
    actor: Actor,
) -> ApprovalRequest:
    """Asks the requester, and the group where one is given, something in words. An answer permits nothing.

    Raises:
        django.db.IntegrityError: the subject has a pending request already.
    """
    call = Call(tool="human.ask", schema_version=1, arguments={"question": question}, workspace_id=parent_id)
    request = ApprovalRequest.objects.create(
        kind=ApprovalRequest.Kind.QUESTION,
        subject_type=subject_type,
        subject_id=subject_id,
        parent_id=parent_id,
        parent_path=parent_path,
        title=_bounded(question),
        command=_storable(question),
        call=_call_json(call),
        digest=call.digest(),
        risk=str(Risk.LOW),
        context=dict(context),
        approvers_id=approvers_id,
        requester_id=requester_id,
        created_at=now,
        expires_at=now + timedelta(seconds=QUESTION_EXPIRES_S),
    )
    _asked(request, policy="", actor=actor, now=now)
    return request


def cancel(*, subject_id: str, now: datetime, actor: Actor, state: str = State.CANCELLED) -> int:
    """Takes back what is still pending about a subject, in the caller's transaction. Gives how many that were."""
    pending = list(
        ApprovalRequest.objects.select_for_update(of=("self",))
        .filter(subject_id=subject_id, state=State.PENDING)
        .order_by("pk")
    )
    for request in pending:
        close(request, State(state), actor=actor, now=now)
    return len(pending)


def void(request_id: UUID | None, *, why: str, now: datetime, actor: Actor) -> bool:
    """What would run is no longer what was approved: the approval counts for nothing, in the caller's transaction.

    False: there is no such request, or it was not approved.
    """
    if request_id is None:
        return False
    request = (
        ApprovalRequest.objects.select_for_update(of=("self",)).filter(pk=request_id, state=State.APPROVED).first()
    )
    if request is None:
        return False
    close(request, State.VOID, actor=actor, now=now, answer=_storable(why), was=State.APPROVED)
    return True


def _asked(request: ApprovalRequest, *, policy: str, actor: Actor, now: datetime) -> None:
    record(
        Event.APPROVAL_REQUESTED,
        actor=actor,
        target=target(request.pk),
        context={
            "kind": str(request.kind),
            "subject": f"{request.subject_type}:{request.subject_id}",
            "parent": request.parent_id,
            "tool": request.call["tool"],
            "digest": request.digest,
            "policy": policy,
            "rule": request.rule,
            "risk": request.risk,
            "approvers": request.approvers_id,
            "quorum": request.quorum,
            "eligible": eligible_users(request).count(),
            "expires_at": request.expires_at.isoformat(),
        },
        payload={"title": request.title, "command": request.command, "preview": request.preview},
    )
    notify.queue(request, now=now)
    hooks.requested(request)


def _call_json(call: Call) -> dict[str, Any]:
    return {
        "tool": call.tool,
        "schema_version": call.schema_version,
        "arguments": dict(call.arguments),
        "workspace_id": call.workspace_id,
        "target_state": dict(call.target_state),
        "preview_digest": call.preview_digest,
    }


def _storable(text: str) -> str:
    """Text as PostgreSQL and UTF-8 can hold it: NUL and lone surrogates become visible marks."""
    return text.replace("\x00", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode("utf-8")


def _bounded(title: str) -> str:
    line = " ".join(_storable(title).split())
    return line if len(line) <= TITLE_MAX else line[: TITLE_MAX - 1] + "…"
