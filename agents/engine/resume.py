"""People have decided, taken back or edited: the step goes on, in the transaction of that."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.utils import timezone

from agents.engine import planned
from agents.engine.advance import advance, paused
from agents.engine.control.edit import edit_step
from agents.engine.gate import grant
from agents.engine.settle import result_json
from agents.engine.transitions import lock_job_of, move_step
from agents.errors import InvalidInput, NotNow
from agents.models import Job, Step
from agents.states import StepState
from approvals.errors import InvalidEdit, TooLate
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.kinds import Event
from tools import permits
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


def taken_back(request: ApprovalRequest, now: datetime) -> None:
    """The hook of `approvals.hooks.on_taken_back`: the step waits for people again, against the claim of the moment.

    Raises:
        TooLate: it has begun, or has ended.
    """
    if request.subject_type != "step":
        return
    try:
        job = lock_job_of(request.subject_id)  # type: ignore[arg-type]
    except Job.DoesNotExist:
        raise TooLate("The job is gone.") from None
    step = Step.objects.filter(pk=request.subject_id, approval_id=request.pk).first()
    if step is None or step.state not in {StepState.QUEUED, StepState.PENDING}:
        raise TooLate("It has begun, and can no longer be taken back." if step else "It is past this approval.")
    if step.permit_id is not None and not permits.withdraw(step.permit_id):
        raise TooLate("It has begun, and can no longer be taken back.")
    if step.state == StepState.QUEUED:
        move_step(step, StepState.PENDING, now=now)
    move_step(
        step,
        StepState.WAITING_APPROVAL,
        now=now,
        permit_id=None,
        dispatched_at=None,
        not_before=None,
        ready_at=now,
        waits_for="",
    )
    advance(job, now=now)


def edited(request: ApprovalRequest, arguments: Mapping[str, Any], by: User, now: datetime) -> None:
    """The hook of `approvals.hooks.on_edit`. Raises TooLate, InvalidEdit."""
    if request.subject_type != "step":
        return
    try:
        edit_step(UUID(request.subject_id), arguments, by=by, now=now)
    except Step.DoesNotExist:
        raise TooLate("The step is gone.") from None
    except NotNow as error:
        raise TooLate(error.message) from None
    except InvalidInput as error:
        raise InvalidEdit(error.message, field=error.field) from None


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
        if step.tool in planned.TOOLS and not job.cancel_requested:
            planned.went_on(job, step, answer, now=now)
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
