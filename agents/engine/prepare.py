"""A call that people are asked about: its preview is made by a worker of its queue, then the request is opened."""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from agents.engine import facts, failures, leave, quarantine, settle
from agents.engine.advance import advance
from agents.engine.exclusion import parts_of
from agents.engine.gate import call_of, proposer, request_context, risk_of
from agents.engine.transitions import lock_job_of, move_step
from agents.models import Job, Step
from agents.states import StepState
from approvals import requests
from approvals.policy.evaluate import Decision
from audit.actor import Actor
from tools import batch, registry, runner
from tools import risk as risks
from tools.errors import ToolError

log = logging.getLogger(__name__)

TRIES = 3
TITLE_COMMAND_MAX = 160


def prepare(step_id: UUID, fence: int, *, worker: str) -> None:
    """Previews the call (read-only) and asks. A doubled message makes a second preview and no second request."""
    step = Step.objects.filter(pk=step_id, state=StepState.READY, attempt=fence).first()
    if step is None:
        return
    try:
        with quarantine.handling(step, "preview", worker=worker):
            preview, target_state = runner.preview(call_of(step), subject=str(step.pk))
    except ToolError as error:
        log.info("step.preview_failed", extra={"tool": step.tool, "code": error.code})
        _failed(step_id, fence, error, worker=worker, now=timezone.now())
        return
    except settle.RETRY_ERRORS:
        raise  # the database is away: the sweeper sends it again
    except Exception as error:
        log.exception("step.preview_crashed", extra={"tool": step.tool})
        crashed = settle.Crashed(f"{type(error).__name__}: {error}")
        _failed(step_id, fence, crashed, worker=worker, now=timezone.now())
        return
    _ask(step_id, fence, preview, target_state, now=timezone.now())


@transaction.atomic
def _ask(step_id: UUID, fence: int, preview: str, target_state: dict[str, object], *, now: datetime) -> None:
    job = lock_job_of(step_id)
    step = Step.objects.filter(pk=step_id, state=StepState.READY, attempt=fence).first()
    if step is None or step.decision is None:
        return
    tool = registry.get(step.tool)
    step.target_state = target_state
    step.preview_digest = runner.preview_digest(preview)
    call = call_of(step)
    command = batch.describe(tool, call)  # a map's chunk has a line a call
    request = requests.open_request(
        decision=Decision.from_json(step.decision),
        subject_type="step",
        subject_id=str(step.pk),
        parent_id=str(job.pk),
        parent_path=job.get_absolute_url(),
        title=_title(job, command),
        command=command,
        call=call,
        preview=preview,
        risk=risk_of(step),
        context=request_context(job, step),
        requester_id=job.owner.pk,
        excluded_ids=[],
        excluded_as=parts_of(job, step),
        environment=leave.environment_of(job),
        tenant=facts.tenant_name(job),
        blast=risks.reach_of(call, preview, target_state),
        now=now,
        actor=proposer(job),
    )
    move_step(
        step,
        StepState.WAITING_APPROVAL,
        now=now,
        approval_id=request.pk,
        target_state=step.target_state,
        preview_digest=step.preview_digest,
        not_before=None,
    )
    advance(job, now=now)


def _title(job: Job, command: str) -> str:
    who = job.agent.name if job.agent and job.led else job.owner.get_username()
    where = f" in {job.repository.name}" if job.repository else ""
    shown = command if len(command) <= TITLE_COMMAND_MAX else f"{command[: TITLE_COMMAND_MAX - 1]}…"
    return f"{who} wants to run {shown}{where}"


@transaction.atomic
def _failed(step_id: UUID, fence: int, error: ToolError, *, worker: str, now: datetime) -> None:
    job = lock_job_of(step_id)
    step = Step.objects.filter(pk=step_id, state=StepState.READY, attempt=fence).first()
    if step is None:
        return
    if error.transient and step.dispatches + 1 < TRIES:
        later = now + timedelta(seconds=failures.retry_delay_s(step.dispatches + 1))
        waiting = Step.objects.filter(pk=step_id, state=StepState.READY, attempt=fence)
        waiting.update(dispatches=step.dispatches + 1, dispatched_at=None, not_before=later)
        return
    settle.fail(step, code=error.code, message=f"Preview: {error.message}", actor=Actor.worker(worker), now=now)
    advance(job, now=now)
