"""People have decided: the step goes on, in the deciding transaction."""

from datetime import datetime

from django.utils import timezone

from agents.engine.advance import advance, paused
from agents.engine.gate import grant
from agents.engine.settle import result_json
from agents.engine.transitions import lock_job_of, move_step
from agents.models import Job, Step
from agents.states import StepState
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.kinds import Event
from tools.spec import Result

PEOPLE = Actor.system("approvals")


def decided(request: ApprovalRequest) -> None:
    """The hook of `approvals.hooks.on_decided`."""
    if request.subject_type != "step":
        return
    try:
        job = lock_job_of(request.subject_id)  # type: ignore[arg-type]
    except Job.DoesNotExist:
        return
    now = request.decided_at or timezone.now()
    step = Step.objects.filter(pk=request.subject_id, state=StepState.WAITING_APPROVAL, approval_id=request.pk).first()
    if step is None:
        return
    if request.state == ApprovalRequest.State.APPROVED:
        _approved(job, step, request, now=now)
    else:
        _refused(step, request, now=now)
    advance(job, now=now)


def _approved(job: Job, step: Step, request: ApprovalRequest, *, now: datetime) -> None:
    if request.kind == ApprovalRequest.Kind.QUESTION:
        answer = Result(ok=True, summary="Answered.", text=request.answer, data={"answer": request.answer})
        move_step(
            step,
            StepState.SUCCEEDED,
            now=now,
            event=Event.STEP_CONFIRMED,
            actor=PEOPLE,
            context={"approval": str(request.pk)},
            result=result_json(answer),
        )
        return
    if paused(job):  # the approval stands, and starts nothing until the job goes on
        move_step(step, StepState.PENDING, now=now)
        return
    grant(step, granted_by=f"approval {request.pk}", now=now)


def _refused(step: Step, request: ApprovalRequest, *, now: datetime) -> None:
    expired = request.state == ApprovalRequest.State.EXPIRED
    code = "approval_expired" if expired else "denied"
    error = "Nobody answered in time." if expired else request.answer
    move_step(
        step,
        StepState.REFUSED,
        now=now,
        event=Event.STEP_REFUSED,
        actor=PEOPLE,
        outcome=code,
        context={"approval": str(request.pk)},
        error_code=code,
        error=error,
    )
