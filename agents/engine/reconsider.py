"""Approvals that the clock or a new policy overtook: what waits for people is decided anew, and so is what they approved
and nobody ran in time. The sweeper does both, a transaction a request."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Max, Q

from agents.engine import recheck
from agents.engine.advance import advance, paused
from agents.engine.gate import decide, gate
from agents.engine.transitions import lock_job_of
from agents.models import Job, Step
from agents.states import STEP_DONE, StepState
from approvals import executing, requests
from approvals.models import ApprovalRequest, PolicyVersion
from audit.actor import Actor
from tools import registry
from tools.errors import UnknownTool

log = logging.getLogger(__name__)

POLICY = Actor.system("policy")
BATCH = 100
SURE_AFTER = timedelta(
    seconds=60
)  # a decision of the moment of a publish may have been made by what was in force before
State, Kind = ApprovalRequest.State, ApprovalRequest.Kind


def policies_changed(now: datetime) -> int:
    """Asks the policies again about requests that were opened by others than are in force: a denial closes them, another
    answer opens a new one that says what changed. How many were looked at."""
    published = PolicyVersion.objects.filter(status=PolicyVersion.Status.PUBLISHED)
    latest = published.aggregate(latest=Max("published_at"))["latest"]
    waiting = ApprovalRequest.objects.filter(state=State.PENDING, kind=Kind.APPROVAL, subject_type="step")
    stale = Q(policy_version__status=PolicyVersion.Status.RETIRED)
    if latest is not None:
        stale |= Q(policies_at__lt=latest + SURE_AFTER if now >= latest + SURE_AFTER else latest)
    found = list(waiting.filter(stale).order_by("created_at").values_list("pk", flat=True)[:BATCH])
    return sum(_each(_reconsider, request_id, now) for request_id in found)


def not_run_in_time(now: datetime) -> int:
    """Voids approvals of which nothing came in time, and has people asked anew where the policies still ask. How many."""
    late = ApprovalRequest.objects.filter(state=State.APPROVED, execution_expires_at__lte=now)
    found = list(late.order_by("execution_expires_at").values_list("pk", flat=True)[:BATCH])
    return sum(_each(_overtaken, request_id, now) for request_id in found)


def _each(act: Callable[[UUID, datetime], None], request_id: UUID, now: datetime) -> bool:
    try:
        with transaction.atomic():
            act(request_id, now)
    except Exception:
        log.exception("approval.reconsidering_failed", extra={"approval": str(request_id)})
        return False
    return True


def _reconsider(request_id: UUID, now: datetime) -> None:
    request = executing.hold(request_id)
    if request is None or request.state != State.PENDING:
        return
    job, step = _subject(request)
    if job is None or step is None or step.state != StepState.WAITING_APPROVAL or step.approval_id != request.pk:
        return
    if _same(job, step, request, now=now):
        ApprovalRequest.objects.filter(pk=request.pk).update(policies_at=now)
        return
    requests.cancel(
        subject_id=request.subject_id, now=now, actor=POLICY, state=State.VOID, why="The policies have changed."
    )
    recheck.let_go(step, now=now)
    if not paused(job):
        gate(job, step, now=now)
    advance(job, now=now)


def _same(job: Job, step: Step, request: ApprovalRequest, *, now: datetime) -> bool:
    """Do the policies of now ask the same people about this call, by the same rule?"""
    if step.kind == Step.Kind.CHUNK:
        return False  # its items may be decided on one by one
    try:
        registry.get(step.tool)
    except UnknownTool:
        return False
    decision, _ = decide(job, step, now=now)
    asked = (str(request.policy_version_id), request.rule)
    return decision.effect == "ask" and (str(decision.policy_version_id), decision.rule) == asked


def _overtaken(request_id: UUID, now: datetime) -> None:
    request = executing.hold(request_id)
    if request is None or request.state != State.APPROVED or request.execution_expires_at is None:
        return
    if request.execution_expires_at > now:
        return
    job, step = _subject(request)
    waits = step is not None and step.approval_id == request.pk and step.state in (StepState.QUEUED, StepState.PENDING)
    if job is not None and step is not None and waits and not _child_of(step):
        recheck.ask_anew(job, step, executing.late_words(request), now=now)
        return
    # it has begun, or will never begin: there is nothing to wait for
    if step is None or step.state in STEP_DONE or step.state != StepState.QUEUED:
        ApprovalRequest.objects.filter(pk=request.pk).update(execution_expires_at=None)


def _child_of(step: Step) -> bool:
    return step.kind == Step.Kind.JOB and step.spec is not None


def _subject(request: ApprovalRequest) -> tuple[Job | None, Step | None]:
    if request.subject_type != "step":
        return None, None
    try:
        job = lock_job_of(request.subject_id)  # type: ignore[arg-type]
    except Job.DoesNotExist:
        return None, None
    return job, Step.objects.filter(pk=request.subject_id).first()
