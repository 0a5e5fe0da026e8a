"""What happened, as rows in the transaction in which it does: events for rules, messages for endpoints."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection

from agents.models import Job, Step, TriggerEvent
from agents.states import JobState
from agents.triggers import outbox
from approvals.models import ApprovalRequest
from audit.canonical import canonical_json

KEY_MAX = 200
OUTPUTS_MAX_BYTES = 16 * 1024
TEXT_MAX = 2000
# Has the owner a rule or an endpoint? Of jobs that nobody listens to no event is written.
LISTENED = """
SELECT EXISTS (SELECT 1 FROM agents_eventrule WHERE enabled AND owner_id = %(owner)s)
    OR EXISTS (SELECT 1 FROM agents_webhookendpoint WHERE enabled AND owner_id = %(owner)s)
"""


def emit(
    name: str, *, owner_id: int, source: str, now: datetime, key: str = "", data: Mapping[str, Any] | None = None
) -> TriggerEvent:
    """Writes an event, in the caller's transaction. Rules of its owner are asked at the next sweep."""
    return TriggerEvent.objects.create(
        name=name, owner_id=owner_id, source=source, key=key[:KEY_MAX], data=dict(data or {}), at=now
    )


def job_ended(job: Job, to: JobState, *, now: datetime) -> None:
    """`job.succeeded`, `job.failed`, … for rules; `job.finished`, and `job.failed`, for endpoints.

    The event's key is the job's label `commit`, or else the job's id. Nothing is written where nobody listens.
    """
    with connection.cursor() as cursor:
        cursor.execute(LISTENED, {"owner": job.owner_id})
        if not cursor.fetchone()[0]:
            return
    facts = job_facts(job, to)
    key = str(job.labels.get("commit") or job.pk)
    emit(f"job.{to}", owner_id=job.owner_id, source=f"job:{job.pk}", key=key, data=facts, now=now)
    outbox.queue("job.finished", owner_id=job.owner_id, data=facts, now=now)
    if to is JobState.FAILED:
        outbox.queue("job.failed", owner_id=job.owner_id, data=facts, now=now)


def step_in_doubt(step: Step, *, now: datetime) -> None:
    """A step was lost in mid-act, and whether it happened is to be found out."""
    owner_id = Job.objects.values_list("owner_id", flat=True).get(pk=step.job_id)
    facts = {"job": str(step.job_id), "step": step.key, "tool": step.tool, "url": _url(f"/jobs/{step.job_id}/")}
    emit("step.in_doubt", owner_id=owner_id, source=f"job:{step.job_id}", key=str(step.job_id), data=facts, now=now)
    outbox.queue("step.in_doubt", owner_id=owner_id, data=facts, now=now)


def approval_requested(request: ApprovalRequest) -> None:
    """A callback of `approvals.hooks.on_requested`: in the asking transaction."""
    outbox.queue("approval.requested", owner_id=request.requester_id, data=_approval(request), now=request.created_at)


def approval_decided(request: ApprovalRequest) -> None:
    """A callback of `approvals.hooks.on_decided`: in the deciding transaction."""
    outbox.queue(
        "approval.decided",
        owner_id=request.requester_id,
        data=_approval(request),
        now=request.decided_at or request.created_at,
    )


def job_facts(job: Job, to: str) -> dict[str, Any]:
    """What is told of a job: small, and nothing of its steps' arguments or output."""
    outputs = job.outputs if job.outputs is not None else {}
    small = len(canonical_json(outputs)) <= OUTPUTS_MAX_BYTES
    return {
        "job": str(job.pk),
        "state": str(to),
        "kind": str(job.kind),
        "goal": job.goal[:TEXT_MAX],
        "repository": job.repository.name if job.repository is not None else "",
        "labels": dict(job.labels),
        "trigger": job.trigger,
        "outcome": job.outcome[:TEXT_MAX],
        "outputs": outputs if small else {},
        "url": _url(job.get_absolute_url()),
    }


def _approval(request: ApprovalRequest) -> dict[str, Any]:
    return {
        "approval": str(request.pk),
        "kind": str(request.kind),
        "state": str(request.state),
        "title": request.title,
        "tool": str(request.call.get("tool", "")),
        "risk": request.risk,
        "job": request.parent_id,
        "expires_at": request.expires_at.isoformat(),
        "url": _url(f"/approvals/{request.pk}/"),
    }


def _url(path: str) -> str:
    return f"{settings.PUBLIC_URL}{path}"
