"""Other arguments for a step that has not begun: decided on anew, and asked about anew."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction

from agents.engine.advance import advance
from agents.engine.control.edited import EDITORS, editors
from agents.engine.gate import call_of
from agents.engine.transitions import lock_job_of, move_step, step_facts, step_target
from agents.errors import InvalidInput, NotNow
from agents.models import Job, Step
from agents.payload import MAX_ARGUMENTS_BYTES, unstorable
from agents.states import JOB_DONE, StepState
from approvals import requests
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.append import record
from audit.canonical import canonical_json
from audit.kinds import Event
from tools import registry
from tools.errors import InvalidArguments, ToolError

EDITABLE = frozenset({StepState.PENDING, StepState.WAITING_APPROVAL})
VOID = ApprovalRequest.State.VOID


def edit_step(step_id: UUID, arguments: Mapping[str, Any], *, by: User, now: datetime) -> Step:
    """Gives the step these arguments; what people were asked about the old ones, or approved of them, is void.

    The same arguments change nothing. Whoever edits cannot approve the step.

    Raises:
        Step.DoesNotExist
        NotNow: it has begun, is about to, or has ended; or it is not one plain call.
        InvalidInput: the tool does not take them.
    """
    while True:
        try:
            return _edit(step_id, dict(arguments), by=by, now=now)
        except _AskedMeanwhile:
            continue


def why_not(job: Job, step: Step) -> str:
    """Why this step cannot be edited now, in a sentence; "" where it can."""
    if job.state in JOB_DONE or job.cancel_requested:
        return "The job has ended or is being cancelled."
    if step.kind != Step.Kind.CALL or step.parent_id is not None or step.compensates_id is not None:
        return "Only a plain call can be edited."
    try:
        offered = registry.get(step.tool).offered
    except ToolError:
        offered = False
    if not offered:
        return f"{step.tool} is the engine's own step."
    if step.state not in EDITABLE:
        return f"The step is {step.state}: only one that has not been let through can be edited. Pause the job first."
    return ""


def checked(tool: str, arguments: Mapping[str, Any]) -> None:
    """Raises InvalidInput where the tool does not take these arguments."""
    for field, message in unstorable(arguments, "arguments"):
        raise InvalidInput(message, field=field)
    if len(canonical_json(arguments)) > MAX_ARGUMENTS_BYTES:
        raise InvalidInput(f"Must be at most {MAX_ARGUMENTS_BYTES // 1024} KiB.", field="arguments")
    try:
        registry.validate(registry.get(tool), arguments)
    except InvalidArguments as error:
        raise InvalidInput(error.message[:300], field=error.field or "arguments") from None
    except ToolError as error:
        raise InvalidInput(error.message[:300], field="arguments") from None


class _AskedMeanwhile(Exception):
    """A request was opened while the job's lock was waited for."""


@transaction.atomic
def _edit(step_id: UUID, arguments: dict[str, Any], *, by: User, now: datetime) -> Step:
    # Lock order: requests first, since a decision locks its request and then the job.
    asked = ApprovalRequest.objects.filter(subject_id=str(step_id))
    locked = {request.pk for request in asked.select_for_update(of=("self",)).order_by("pk")}
    try:
        job = lock_job_of(step_id)
    except Job.DoesNotExist:
        raise Step.DoesNotExist from None
    step = Step.objects.get(pk=step_id)
    if set(asked.values_list("pk", flat=True)) - locked:
        raise _AskedMeanwhile
    reason = why_not(job, step)
    if reason:
        raise NotNow(reason)
    checked(step.tool, arguments)
    if arguments == step.arguments:
        return step
    actor, old, digest = Actor.user(by.pk), step.arguments, call_of(step).digest()
    requests.cancel(subject_id=str(step.pk), now=now, actor=actor, state=VOID)
    requests.void(step.approval_id, why="The step was edited.", now=now, actor=actor)
    changes: dict[str, Any] = {
        "arguments": arguments,
        "template": None,  # what a workflow would fill in is said now
        "risk": str(registry.get(step.tool).risk(arguments).level),
        "spec": {**(step.spec or {}), EDITORS: sorted({*editors(step), by.pk})},
        "approval_id": None,
        "permit_id": None,
        "target_state": {},
        "preview_digest": "",
        # the fence: a preview of the old arguments that is still being made must not become a request about the new
        "attempt": step.attempt + 1,
        "max_attempts": step.max_attempts + 1,
    }
    if step.state == StepState.PENDING:
        if not Step.objects.filter(pk=step.pk, state=StepState.PENDING, attempt=step.attempt).update(**changes):
            raise NotNow("The step has just begun.")
        for name, value in changes.items():
            setattr(step, name, value)
    else:
        move_step(step, StepState.PENDING, now=now, **changes)
    record(
        Event.STEP_EDITED,
        actor=actor,
        target=step_target(step),
        context=step_facts(step, digest_before=digest, digest=call_of(step).digest()),
        payload={"before": old, "after": arguments},
    )
    advance(job, now=now)
    step.refresh_from_db()
    return step
