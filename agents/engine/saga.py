"""Undoing: a job that failed or was cancelled compensates the steps that say how, in reverse order of their ends, and of
a map the items that succeeded, from the last to the first.

Each undoing step is a step of its own, which policies decide on and people are asked about as about every other one.
One that fails does not stop the others; the job's outcome says what was undone and what was not.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db.models import Exists, Max, OuterRef, Q, QuerySet

from agents import feed
from agents.engine import expressions, fanout
from agents.engine.arguments import fail
from agents.engine.ending import Ending
from agents.engine.gate import again, gate
from agents.engine.transitions import ENGINE, move_job, move_step, step_entry, step_facts, step_target
from agents.errors import AgentsError, InvalidPlan
from agents.models import Job, MapItem, Step
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


def undoing(job: Job) -> bool:
    """Does it undo what it did, or would if it were not paused?"""
    if job.state == JobState.PAUSED:
        return Step.objects.filter(job=job, compensates__isnull=False).exists()
    return job.state == JobState.COMPENSATING


def go_on(job: Job, *, now: datetime, begin_chunks: Callable[[], object]) -> None:
    """Notes what was undone and begins the next undoing; ends the job when nothing is left to undo, or a person stopped it.

    begin_chunks: lets go what waits of maps, and is true while a map or a chunk has ended by it. The caller holds the
    job's lock.
    """
    while True:
        _begin_again(job, now=now)
        while begin_chunks():
            pass
        if Step.objects.filter(job=job, state__in=STEP_OPEN).exists():
            return
        _note_undone(job, now=now)
        stopped = Step.objects.filter(job=job, compensates__isnull=False, cancel_requested=True).exists()
        # the latest first; each once, whatever came of it
        target = _done(job).filter(compensated_by=None).order_by("-finished_at", "-seq").first()
        if target is None or stopped:
            _finish(job, now=now, stopped=stopped)
            return
        _undo(job, target, now=now)


def _begin_again(job: Job, *, now: datetime) -> None:
    """What was set back when the job was paused."""
    waiting = Step.objects.filter(job=job, compensates__isnull=False, parent=None, state=StepState.PENDING)
    for step in waiting.exclude(kind=Step.Kind.MAP):
        if step.approval_id is not None:
            again(job, step, now=now, not_before=step.not_before)
        else:
            gate(job, step, now=now)


def _done(job: Job) -> QuerySet[Step]:
    some = MapItem.objects.filter(step=OuterRef("pk"), ok=True)
    partly = Q(kind=Step.Kind.MAP, state__in=[StepState.FAILED, StepState.CANCELLED]) & Exists(some)
    steps = Step.objects.filter(job=job, compensation__isnull=False, compensates=None, parent=None)
    return steps.filter(Q(state=StepState.SUCCEEDED) | partly)


def _undone(job: Job) -> QuerySet[Step]:
    """Of `_done`, those whose undoing has succeeded."""
    return _done(job).filter(compensated_by__state=StepState.SUCCEEDED, compensated_by__parent=None)


def _note_undone(job: Job, *, now: datetime) -> None:
    for target in _undone(job).filter(state=StepState.SUCCEEDED):  # a map that failed in part stays failed
        finished_at = target.finished_at  # when it did it, which the row keeps
        move_step(
            target, StepState.COMPENSATED, now=now, event=Event.STEP_COMPENSATED, finished_at=finished_at, error=""
        )


def _calls(job: Job, target: Step, template: dict[str, Any], name: str) -> dict[int, dict[str, Any]]:
    """What undoes each item of a map that succeeded, the last one first.

    Raises:
        ExpressionFailed, InvalidPlan, ToolError
    """
    tool, scope = registry.get(name), expressions.scope(job)
    items = fanout.list_of(target, scope)
    calls: dict[int, dict[str, Any]] = {}
    rows = MapItem.objects.filter(step=target, ok=True).order_by("-index").values_list("index", "result")
    for index, found in rows.iterator(chunk_size=1000):
        if index >= len(items):
            raise InvalidPlan("The list is no longer what it was.")
        result = {"data": found.get("data") or {}, "text": found.get("text", ""), "summary": found.get("summary", "")}
        extra = {"item": items[index], "index": index, "result": result}
        try:
            calls[index] = expressions.resolve(template, expressions.Scope(job, scope.steps, extra))
            registry.validate(tool, calls[index])
        except (AgentsError, ToolError) as error:
            raise InvalidPlan(f"Item {index}: {error.message}") from error
    return calls


def _undo(job: Job, target: Step, *, now: datetime) -> None:
    """Writes the step that undoes `target` and decides on it."""
    assert target.compensation is not None
    name, template = str(target.compensation["tool"]), target.compensation.get("arguments") or {}
    problem, calls = "", None
    arguments: dict[str, Any] = {}
    effect, queue, version = str(Effect.ONCE), target.queue, 1
    try:
        tool = registry.get(name)
        effect, queue, version = str(tool.effect_of(template)), tool.queue, tool.schema_version
        if tool.starts_job:
            problem = f"{name} starts a job, which cannot undo a step."
        elif target.kind == Step.Kind.MAP:
            calls = _calls(job, target, template, name)
        else:
            arguments = expressions.resolve(template, expressions.scope(job))
            registry.validate(tool, arguments)
    except (ToolError, expressions.ExpressionFailed, InvalidPlan) as error:
        problem = error.message
    last = Step.objects.filter(job=job).aggregate(last=Max("seq"))["last"] or 0
    step = Step.objects.create(
        job=job,
        workspace_of=job.workspace_of,
        kind=Step.Kind.CALL if calls is None else Step.Kind.MAP,
        spec=None if calls is None else _map_of(target, template),
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
    elif calls is not None:
        fanout.expand(job, step, now=now, given=calls)
    else:
        gate(job, step, now=now)


def _map_of(target: Step, template: dict[str, Any]) -> dict[str, Any]:
    """The spec of the map that undoes a map: one chunk after another, of the size that it had."""
    spec = {"arguments": template, "over": f"undo {target.key}", "parallel": 1}
    chunk = (target.spec or {}).get("chunk")
    return {**spec, "chunk": chunk} if chunk else spec


def _key(job: Job, target: Step) -> str:
    key = f"undo-{target.key}"
    if len(key) > KEY_MAX or Step.objects.filter(job=job, key=key).exists():
        return f"undo-{target.seq}-{str(target.pk)[-12:]}"
    return key


def _finish(job: Job, *, now: datetime, stopped: bool) -> None:
    partly = list(_undone(job))
    undone = sorted([*Step.objects.filter(job=job, state=StepState.COMPENSATED), *partly], key=lambda step: step.seq)
    kept = list(_done(job).exclude(pk__in=[step.pk for step in partly]).order_by("seq"))
    maybe = Step.objects.filter(job=job, state=StepState.CANCELLED, compensation__isnull=False, attempt__gt=0)
    why = job.outcome.strip()
    said = [why if not why or why[-1] in ".!?…" else f"{why}."]
    if stopped:
        said.append("A person stopped the undoing.")
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
    by = target.compensated_by.filter(parent=None).order_by("seq").last()
    return f"{target.key} ({by.key} {by.state}: {by.error[:300]})" if by is not None else target.key
