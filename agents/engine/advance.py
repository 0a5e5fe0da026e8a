"""What comes next in a job: readies steps whose needs are met, and ends the job when nothing is open."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from agents.engine import ending, fanout, saga
from agents.engine.arguments import settle_arguments, settle_condition, skipped_by_condition
from agents.engine.ending import THINK
from agents.engine.gate import again, gate
from agents.engine.transitions import move_job, move_step
from agents.models import Job, Step
from agents.states import STEP_DONE, STEP_OPEN, JobState, StepState
from audit.kinds import Event

__all__ = ["THINK", "advance", "paused"]

_PARKED = {StepState.WAITING_APPROVAL, StepState.IN_DOUBT}

# Pending steps of a job that wait for no other one. Chunks wait for their map; a map that has fanned out waits for its
# chunks and a step that is a job of its own for that job.
_FREE = """
SELECT s.* FROM agents_step AS s
 WHERE s.job_id = %(job)s AND s.state = 'pending' AND s.parent_id IS NULL
   AND NOT (s.kind IN ('map', 'job') AND s.ready_at IS NOT NULL)
   AND (%(freed)s::varchar[] IS NULL OR s.needs && %(freed)s::varchar[])
   AND NOT EXISTS (
       SELECT FROM agents_step AS n WHERE n.job_id = s.job_id AND n.key = ANY (s.needs) AND n.state = ANY (%(open)s::varchar[]))
 ORDER BY s.seq
"""


def advance(job: Job, *, now: datetime, ended: Sequence[Step] | None = None) -> None:
    """Moves everything that can move. The caller holds the job's row lock and commits.

    ended: the steps whose move is the reason, where the caller knows that nothing else can have become free; then only
    what needs them is looked at.
    """
    if job.state == JobState.COMPENSATING:
        _undo(job, now=now)
        return
    if job.state == JobState.PAUSED and saga.undoing(job):
        return
    while not paused(job) and not ending.not_yet(job, now):
        keys = None if ended is None else [step.key for step in ended if step.state in STEP_DONE]
        maps = _maps(job, ended)
        if keys == [] and not maps:
            break
        ended = [*_release(job, keys, now=now), *_chunks(job, maps, now=now)]
    _settle_job(job, now=now)


def paused(job: Job) -> bool:
    """Nothing of it may begin: a person said so, or another job has its key. What is cancelled goes on to its end."""
    waits_for_key = bool(job.concurrency_key) and not job.holds_key
    if job.cancel_requested:
        return job.state == JobState.PAUSED and saga.undoing(job)
    return job.state == JobState.PAUSED or waits_for_key


def _undo(job: Job, *, now: datetime) -> None:
    saga.go_on(job, now=now, begin_chunks=lambda: _chunks(job, _maps(job, None), now=now))


def _release(job: Job, freed: list[str] | None, *, now: datetime) -> list[Step]:
    """Lets go what waits for nothing any more; the steps that ended by it (skipped, refused), or fanned out."""
    if freed == []:
        return []
    given = {"job": job.pk, "freed": freed, "open": sorted(STEP_OPEN)}
    steps = list(Step.objects.raw(_FREE, given))
    needed = {key for step in steps for key in step.needs}
    states = {
        key: (state, code)
        for key, state, code in Step.objects.filter(job=job, key__in=needed).values_list("key", "state", "error_code")
    }
    for step in steps:
        _free(job, step, states, now=now)
    return [step for step in steps if step.state in STEP_DONE or step.kind == Step.Kind.MAP]


def _free(job: Job, step: Step, states: dict[str, tuple[str, str]], *, now: datetime) -> None:
    failed = next((key for key in step.needs if not _succeeded(*states[key])), None)
    if job.cancel_requested:
        move_step(step, StepState.CANCELLED, now=now, event=Event.STEP_CANCELLED)
    elif step.needs_success and failed is not None:
        _skip(step, failed, states[failed][0], now=now)
    elif step.approval_id is not None:  # people approved it while the job was paused
        again(job, step, now=now, not_before=step.not_before)
    elif settle_condition(job, step, now=now) and settle_arguments(job, step, now=now):
        if step.kind == Step.Kind.MAP:
            fanout.expand(job, step, now=now)
        else:
            gate(job, step, now=now)


def _succeeded(state: str, error_code: str) -> bool:
    return state == StepState.SUCCEEDED or skipped_by_condition(state, error_code)


def _skip(step: Step, because: str, state: str, *, now: datetime) -> None:
    move_step(
        step,
        StepState.SKIPPED,
        now=now,
        event=Event.STEP_SKIPPED,
        context={"because": because},
        error_code="skipped",
        error=f"Skipped: {because} {state}.",
    )


def _maps(job: Job, ended: Sequence[Step] | None) -> list[Step]:
    """Maps that have fanned out and may go on."""
    waiting = Step.objects.filter(job=job, kind=Step.Kind.MAP, state=StepState.PENDING, ready_at__isnull=False)
    if ended is None:
        return list(waiting)
    ids = {step.parent_id for step in ended if step.parent_id} | {s.pk for s in ended if s.kind == Step.Kind.MAP}
    return list(waiting.filter(pk__in=ids)) if ids else []


def _chunks(job: Job, maps: Sequence[Step], *, now: datetime) -> list[Step]:
    """Begins the chunks for which there is room; the chunks and maps that ended by it."""
    ended: list[Step] = []
    for step in maps:
        chunks = fanout.go_on(job, step, now=now)
        for chunk in chunks:
            if job.cancel_requested and chunk.compensates_id is None:
                move_step(chunk, StepState.CANCELLED, now=now, event=Event.STEP_CANCELLED)
            elif chunk.approval_id is not None:  # people approved it while the job was paused
                again(job, chunk, now=now, not_before=chunk.not_before)
            else:
                gate(job, chunk, now=now)
        ended += [one for one in [*chunks, step] if one.state in STEP_DONE]
    return ended


def _settle_job(job: Job, *, now: datetime) -> None:
    rows = Step.objects.filter(job=job, state__in=STEP_OPEN).order_by().values_list("state", flat=True).distinct()
    open_states = {StepState(state) for state in rows}
    if open_states and job.state == JobState.PAUSED:
        return
    if open_states:
        active = open_states - {StepState.PENDING}
        if active and active <= _PARKED:
            move_job(job, JobState.WAITING, now=now)
        elif job.state == JobState.WAITING or StepState.RUNNING in active:
            move_job(job, JobState.RUNNING, now=now)
        return
    end = ending.of(job)
    if end.state is not JobState.SUCCEEDED and saga.begin(job, end, now=now):
        _undo(job, now=now)
        return
    changes: dict[str, Any] = {"outcome": end.outcome, **({"outputs": end.outputs} if end.outputs is not None else {})}
    context = {"steps": end.steps, "tokens": job.tokens_used}
    move_job(job, end.state, now=now, event=Event.JOB_FINISHED, context=context, **changes)
