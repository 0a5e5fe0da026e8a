"""Asking people: requests are opened, and taken back, inside the transaction of whoever asks."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from approvals import changes, digests, hooks, notify
from approvals.closing import State, close, target
from approvals.eligibility import eligible_users
from approvals.models import ApprovalRequest, PolicyRule
from approvals.policy.evaluate import Decision
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event
from tools.spec import Call, Risk, RiskScore

QUESTION_EXPIRES_S = 7 * 86_400
REMIND_AT = (0.25, 0.75)  # of the time that a request has
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
    excluded_as: Mapping[int, str] | None = None,
    environment: str = "",
    tenant: str = "",
    blast: Mapping[str, Any] | None = None,
) -> ApprovalRequest:
    """Asks the approvers of `decision` about exactly this call; messages go out after the caller's commit.

    excluded_as: {user (primary key): in what part they may not vote}. Where an approval of the same subject became
    void, the new request takes its place and says what has changed.

    Raises:
        django.db.IntegrityError: the subject has a pending request already.
    """
    parts = {str(requester_id): "requester", **{str(user): part for user, part in (excluded_as or {}).items()}}
    version_id = decision.policy_version_id
    request = ApprovalRequest(
        kind=ApprovalRequest.Kind.APPROVAL,
        subject_type=subject_type,
        subject_id=subject_id,
        parent_id=parent_id,
        parent_path=parent_path,
        title=_bounded(title),
        command=_storable(command),
        call=_call_json(call),
        digest=digests.binding(call, policy_version_id=version_id, rule=decision.rule),
        preview=_storable(preview),
        preview_at=now,
        risk=str(risk.level),
        risk_reasons=list(risk.reasons),
        context=dict(context),
        policy_version_id=version_id,
        rule=decision.rule,
        rule_reason=decision.reason[:500],
        approvers_id=decision.approvers_id,
        quorum=decision.quorum,
        requester_id=requester_id,
        excluded_ids=sorted({*map(int, parts), *excluded_ids}),
        excluded_as=parts,
        environment=environment[:40],
        tenant=tenant[:80],
        blast=dict(blast or {}),
        created_at=now,
        expires_at=now + timedelta(seconds=decision.expires_s),
        remind_at=now + timedelta(seconds=decision.expires_s * REMIND_AT[0]),
        policies_at=now,
    )
    _as_the_rule_says(request)
    if risk.level == Risk.LOW:
        request.alike = digests.alike(
            tool=call.tool,
            target=digests.target_of(request.context, request.environment),
            policy_version_id=version_id,
            rule=decision.rule,
            parent_kind=subject_type,
        )
    request.replaces = _replaced(request)
    if request.replaces is not None:
        request.changed = changes.words(request.replaces, request)
    request.save(force_insert=True)
    _asked(request, call, policy=decision.policy, actor=actor, now=now)
    return request


def _as_the_rule_says(request: ApprovalRequest) -> None:
    """Copies from the rule that asks what else must be so for it to be approved."""
    if request.policy_version_id is None:
        return
    rules = PolicyRule.objects.filter(version_id=request.policy_version_id, name=request.rule)
    rule = rules.prefetch_related("roles__group").first()
    if rule is None:
        return
    request.roles = [
        {"group": role.group_id, "name": role.group.name, "count": role.count} for role in rule.roles.all()
    ]
    request.second_factor = rule.second_factor
    request.execution_expires_s = rule.execution_expires_s
    request.escalate_to_id = rule.escalate_to_id
    request.grant_max_s = rule.grant_max_s


def _replaced(request: ApprovalRequest) -> ApprovalRequest | None:
    """The last request about the same subject, where that became void."""
    earlier = ApprovalRequest.objects.filter(subject_type=request.subject_type, subject_id=request.subject_id)
    last = earlier.select_related("policy_version__policy").order_by("-created_at", "-pk").first()
    return last if last is not None and last.state == State.VOID else None


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
    _asked(request, call, policy="", actor=actor, now=now)
    return request


def cancel(*, subject_id: str, now: datetime, actor: Actor, state: str = State.CANCELLED, why: str = "") -> int:
    """Takes back what is still pending about a subject, in the caller's transaction. Gives how many that were."""
    pending = list(
        ApprovalRequest.objects.select_for_update(of=("self",))
        .filter(subject_id=subject_id, state=State.PENDING)
        .order_by("pk")
    )
    for request in pending:
        close(request, State(state), actor=actor, now=now, answer=_storable(why))
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


def _asked(request: ApprovalRequest, call: Call, *, policy: str, actor: Actor, now: datetime) -> None:
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
            "call": call.digest(),  # as the dispatch names it
            "policy": policy,
            "rule": request.rule,
            "risk": request.risk,
            "approvers": request.approvers_id,
            "quorum": request.quorum,
            "eligible": eligible_users(request).count(),
            "expires_at": request.expires_at.isoformat(),
            **({"roles": request.roles} if request.roles else {}),
            **({"replaces": str(request.replaces_id)} if request.replaces_id else {}),
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
        **({"many": True} if call.many else {}),
        **({"constraints": dict(call.constraints)} if call.constraints else {}),
    }


def _storable(text: str) -> str:
    """Text as PostgreSQL and UTF-8 can hold it: NUL and lone surrogates become visible marks."""
    return text.replace("\x00", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode("utf-8")


def _bounded(title: str) -> str:
    line = " ".join(_storable(title).split())
    return line if len(line) <= TITLE_MAX else line[: TITLE_MAX - 1] + "…"
