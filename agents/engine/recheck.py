"""Before what people approved begins: does their approval still give leave to exactly this?

Asked in the claiming transaction, with the request's row locked before the job's, so that a vote that is taken back, an
approver who leaves and a claim are in one order. Where it does not, the approval is void and the call is decided anew.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from agents.engine.advance import advance, paused
from agents.engine.gate import call_of, gate
from agents.engine.transitions import move_step, step_facts, step_target
from agents.models import Job, Step
from agents.states import StepState
from approvals import digests, executing, requests
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event
from tools import permits

RUNNER = Actor.system("runner")


def hold(step_id: UUID) -> ApprovalRequest | None:
    """Locks the request that the step was let through by, before the caller locks its job. None: it needs none."""
    approval_id = Step.objects.filter(pk=step_id).values_list("approval_id", flat=True).first()
    return None if approval_id is None else executing.hold(approval_id)


def stands(job: Job, step: Step, approval: ApprovalRequest | None, *, now: datetime) -> bool:
    """May this step, which is about to begin, begin? Else its approval is void and it is decided on anew.

    approval: what `hold` gave. Where the step was let through by another one meanwhile, nothing is done.
    """
    if step.approval_id is None:
        return True
    if approval is not None and approval.pk != step.approval_id:
        return False
    why = _flaw(step, approval, now=now)
    if not why:
        return True
    ask_anew(job, step, why, now=now)
    return False


def begun(approval: ApprovalRequest | None) -> None:
    """What it approved runs: it was in time, also for what must run again after a loss."""
    if approval is not None and approval.execution_expires_at is not None:
        ApprovalRequest.objects.filter(pk=approval.pk).update(execution_expires_at=None)


def ask_anew(job: Job, step: Step, why: str, *, now: datetime) -> None:
    """Voids the approval of a step that has not begun, and lets the policies decide again. The request's row and the
    job's are locked by the caller."""
    record(
        Event.PERMIT_REFUSED,
        actor=RUNNER,
        target=step_target(step),
        outcome="void",
        context=step_facts(step, approval=str(step.approval_id)),
        payload={"error": why},
    )
    requests.void(step.approval_id, why=why, now=now, actor=RUNNER)
    let_go(step, now=now)
    if not paused(job):
        gate(job, step, now=now)
    advance(job, now=now)


def let_go(step: Step, *, now: datetime) -> None:
    """Takes a step that waits to begin, or for people, back to where nothing is decided."""
    if step.permit_id is not None:
        permits.withdraw(step.permit_id)
    changes: dict[str, Any] = {
        "approval_id": None,
        "permit_id": None,
        "dispatched_at": None,
        "not_before": None,
        "ready_at": None,
        "waits_for": "",
    }
    if step.state == StepState.PENDING:
        Step.objects.filter(pk=step.pk, state=StepState.PENDING).update(**changes)
        for name, value in changes.items():
            setattr(step, name, value)
    else:
        move_step(step, StepState.PENDING, now=now, **changes)


def digest_of(step: Step) -> str:
    """What an approval of the step must be bound to, as the step's row is now."""
    decision = step.decision or {}
    return digests.binding(
        call_of(step), policy_version_id=decision.get("policy_version_id"), rule=str(decision.get("rule", ""))
    )


def _flaw(step: Step, approval: ApprovalRequest | None, *, now: datetime) -> str:
    if approval is None:
        return "There is no such approval."
    if approval.subject_id != str(step.pk):
        return "The approval is for another step."
    return executing.flaw(approval, digest=digest_of(step), now=now)
