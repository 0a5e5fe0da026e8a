"""Undoing: a job that failed or was cancelled compensates the steps that say how, in reverse order of their ends.

Each undoing step is a step of its own, which policies decide on and people are asked about as about every other one.
One that fails does not stop the others; the job's outcome says what was undone and what was not.
"""

from datetime import datetime
from typing import Any

from django.db.models import Max, QuerySet

from agents import feed
from agents.engine import expressions
from agents.engine.arguments import fail
from agents.engine.ending import Ending
from agents.engine.gate import gate
from agents.engine.transitions import ENGINE, move_job, move_step, step_entry, step_facts, step_target
from agents.models import Job, Step
from agents.states import STEP_OPEN, JobState, StepState
from audit.append import record
from audit.kinds import Event
from tools import registry
from tools.errors import ToolError
from tools.spec import Effect

KEY_MAX = 80


def wanted(job: Job) -> bool:
    """Has it done anything that its definition says how to undo?"""
    return _done(job).exists()


def begin(job: Job, end: Ending, *, now: datetime) -> bool:
    """A job is about to end badly: True where it undoes first. The caller then calls `go_on`."""
    if not wanted(job):
        return False
    context = {"ended": str(end.state), "steps": _done(job).count()}
    move_job(
        job, JobState.COMPENSATING, now=now, event=Event.JOB_COMPENSATING, context=context, outcome=end.outcome[:20_000]
    )
    return True


def go_on(job: Job, *, now: datetime) -> None:
    """Notes what was undone and begins the next undoing; ends the job when nothing is left to undo.

    The caller holds the job's lock.
    """
    while not Step.objects.filter(job=job, state__in=STEP_OPEN).exists():
        _note_undone(job, now=now)
        # the latest first; each once, whatever came of it
        target = _done(job).filter(compensated_by=None).order_by("-finished_at", "-seq").first()
        if target is None:
            _finish(job, now=now)
            return
        _undo(job, target, now=now)


def _done(job: Job) -> QuerySet[Step]:
    return Step.objects.filter(
        job=job, state=StepState.SUCCEEDED, compensation__isnull=False, compensates=None, parent=None
    )


def _note_undone(job: Job, *, now: datetime) -> None:
    for target in _done(job).filter(compensated_by__state=StepState.SUCCEEDED):
        finished_at = target.finished_at  # when it did it, which the row keeps
        move_step(
            target, StepState.COMPENSATED, now=now, event=Event.STEP_COMPENSATED, finished_at=finished_at, error=""
        )


def _undo(job: Job, target: Step, *, now: datetime) -> None:
    """Writes the step that undoes `target` and decides on it."""
    assert target.compensation is not None
    name, template = str(target.compensation["tool"]), target.compensation.get("arguments") or {}
    problem = ""
    arguments: dict[str, Any] = {}
    effect, queue, version = str(Effect.ONCE), target.queue, 1
    try:
        tool = registry.get(name)
        effect, queue, version = str(tool.effect), tool.queue, tool.schema_version
        arguments = expressions.resolve(template, expressions.scope(job))
        registry.validate(tool, arguments)
        if tool.starts_job:
            problem = f"{name} starts a job, which cannot undo a step."
    except (ToolError, expressions.ExpressionFailed) as error:
        problem = error.message
    last = Step.objects.filter(job=job).aggregate(last=Max("seq"))["last"] or 0
    step = Step.objects.create(
        job=job,
        workspace_of=job.workspace_of,
        seq=last + 1,
        key=_key(job, target),
        tool=name,
        schema_version=version,
        arguments=arguments,
        reason=f"Undoes {target.key}.",
        compensates=target,
        effect=effect,
        queue=queue,
        created_at=now,
    )
    record(
        Event.STEP_PROPOSED,
        actor=ENGINE,
        target=step_target(step),
        context=step_facts(step, queue=step.queue, effect=step.effect, compensates=target.key),
        payload={"arguments": step.arguments, "reason": step.reason},
    )
    feed.append(job.pk, [step_entry(step)], now=now)
    if problem:
        fail(step, "bad_compensation", f"{target.key} cannot be undone: {problem}", now=now)
    else:
        gate(job, step, now=now)


def _key(job: Job, target: Step) -> str:
    key = f"undo-{target.key}"
    if len(key) > KEY_MAX or Step.objects.filter(job=job, key=key).exists():
        return f"undo-{target.seq}-{str(target.pk)[-12:]}"
    return key


def _finish(job: Job, *, now: datetime) -> None:
    undone = list(Step.objects.filter(job=job, state=StepState.COMPENSATED).order_by("seq"))
    kept = list(_done(job).order_by("seq"))
    maybe = Step.objects.filter(job=job, state=StepState.CANCELLED, compensation__isnull=False, attempt__gt=0)
    why = job.outcome.strip()
    said = [why if not why or why[-1] in ".!?…" else f"{why}."]
    if undone:
        said.append(f"Undone: {', '.join(step.key for step in undone)}.")
    if kept:
        said.append(f"Not undone: {', '.join(_why(step) for step in kept)}.")
    doubtful = [step.key for step in maybe.order_by("seq") if "may have happened" in step.error]
    if doubtful:
        said.append(f"Stopped in mid-act, not undone, and may have happened: {', '.join(doubtful)}.")
    state = JobState.FAILED if kept or doubtful else JobState.COMPENSATED
    context = {
        "steps": Step.objects.filter(job=job).count(),
        "tokens": job.tokens_used,
        "undone": [step.key for step in undone],
        "not_undone": [*(step.key for step in kept), *doubtful],
    }
    outcome = " ".join(filter(None, said))
    move_job(job, state, now=now, event=Event.JOB_FINISHED, context=context, outcome=outcome)


def _why(target: Step) -> str:
    by = target.compensated_by.order_by("seq").last()
    return f"{target.key} ({by.key} {by.state}: {by.error[:300]})" if by is not None else target.key
