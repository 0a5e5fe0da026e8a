"""How a job ends whose steps have all ended, and when it may begin."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q

from agents.engine import expressions
from agents.engine.arguments import BY_CONDITION
from agents.models import Job, Step
from agents.states import JobState, StepState

THINK = "llm.think"
PLAN = "llm.plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """steps: how many the job had; outputs: of a workflow that has some; where it failed, if all can be told."""

    state: JobState
    outcome: str
    steps: int
    outputs: dict[str, Any] | None = None


OVERDUE_WORDS = "Over its wall-clock limit"


def not_yet(job: Job, now: datetime) -> bool:
    """Is it too early for the job to begin? What is cancelled goes on to its end."""
    return job.starts_at is not None and job.starts_at > now and not job.cancel_requested


def overdue(job: Job) -> bool:
    """Was it ended by its wall-clock limit?"""
    return job.cancel_requested and job.outcome.startswith(OVERDUE_WORDS)


def of(job: Job) -> Ending:
    """How the job ends, now that no step is open."""
    steps = Step.objects.filter(job=job, compensates=None)
    count = steps.count()
    if overdue(job):
        return Ending(state=JobState.FAILED, outcome=job.outcome, steps=count)
    if job.cancel_requested:
        return Ending(state=JobState.CANCELLED, outcome=job.outcome or "Cancelled.", steps=count)
    if job.led:
        last = steps.filter(tool__in=[THINK, PLAN]).order_by("seq").last()
        said = last.result["data"] if last and last.state == StepState.SUCCEEDED and last.result is not None else None
        if last is not None and said is not None and (last.tool == THINK or said.get("finish") is not None):
            finish = said.get("finish") or {}
            state = JobState.SUCCEEDED if finish.get("success") else JobState.FAILED
            return Ending(state=state, outcome=str(finish.get("summary", "")), steps=count)
    own = steps.filter(parent=None)  # a map answers for its chunks
    passed = Q(state=StepState.SKIPPED, error_code=BY_CONDITION)
    bad = own.exclude(state=StepState.SUCCEEDED).exclude(passed).order_by("seq")
    first = bad.exclude(state=StepState.SKIPPED).first() or bad.first()
    if first is not None:
        outcome = f"Step {first.key} ({first.tool}) {first.state}: {first.error}".strip()
        return Ending(state=JobState.FAILED, outcome=outcome, steps=count, outputs=_as_far(job))
    return _succeeded(job, own.count(), own.filter(passed).count(), count)


def _spec(job: Job) -> dict[str, str] | None:
    definition = job.workflow_version.definition if job.workflow_version else None
    return (definition or {}).get("outputs")


def _as_far(job: Job) -> dict[str, Any] | None:
    """The outputs of a job that failed, where all of them can be told: which check passed, and which did not."""
    spec = _spec(job)
    try:
        return expressions.outputs(job, spec) if spec else None
    except expressions.ExpressionFailed:
        return None


def _succeeded(job: Job, own: int, skipped: int, count: int) -> Ending:
    outcome = f"All {own} steps succeeded."
    if skipped:
        outcome = f"{own - skipped} of {own} steps succeeded; {skipped} did not apply."
    spec = _spec(job)
    try:
        outputs = expressions.outputs(job, spec) if spec else None
    except expressions.ExpressionFailed as error:
        return Ending(state=JobState.FAILED, outcome=f"{outcome} {error.message}", steps=count)
    return Ending(state=JobState.SUCCEEDED, outcome=outcome, steps=count, outputs=outputs)
