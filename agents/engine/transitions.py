"""The one place that writes a job's or a step's state.

Lock order, everywhere: approval requests, then the job's row, then its steps. Whoever moves a step holds the job's
row lock, so that moves of one job are serial and its feed has no gaps.
"""

from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction

from agents import feed
from agents.engine import backlog, dispatch
from agents.errors import IllegalTransition, StepMoved
from agents.memory import episodes
from agents.models import Job, Step
from agents.states import JOB_DONE, JOB_MOVES, STEP_DONE, STEP_MOVES, STEP_SENT, JobState, StepState
from agents.triggers import emit
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

ENGINE = Actor.system("engine")


def lock_job(job_id: UUID) -> Job:
    """The job's row, locked until commit. Raises Job.DoesNotExist."""
    return Job.objects.select_for_update(of=("self",)).select_related("agent", "repository", "owner").get(pk=job_id)


def lock_job_of(step_id: UUID) -> Job:
    """Raises Job.DoesNotExist."""
    step = Step.objects.only("job_id").filter(pk=step_id).first()
    if step is None:
        raise Job.DoesNotExist
    return lock_job(step.job_id)


def job_target(job: Job) -> Target:
    return Target(type="job", id=str(job.pk))


def step_target(step: Step) -> Target:
    return Target(type="step", id=str(step.pk))


def step_facts(step: Step, **more: Any) -> dict[str, Any]:
    """The facts that every audit record of a step carries."""
    return {"job": str(step.job_id), "key": step.key, "tool": step.tool, "attempt": step.attempt, **more}


def move_step(
    step: Step,
    to: StepState,
    *,
    now: datetime,
    event: Event | None = None,
    actor: Actor = ENGINE,
    outcome: str = "ok",
    context: dict[str, Any] | None = None,
    payload: dict[str, Any] | None = None,
    **changes: Any,
) -> None:
    """Moves `step` out of the state and attempt that the caller saw, exactly once, with its audit record.

    Raises:
        IllegalTransition: `to` is not reachable from the state seen.
        StepMoved: another worker won; nothing is written.
    """
    seen = StepState(step.state)
    if to not in STEP_MOVES[seen]:
        raise IllegalTransition(f"step {step.pk}: {seen} -> {to}")
    if to in STEP_DONE:
        changes.setdefault("finished_at", now)
        changes.setdefault("lease_until", None)
    if to in STEP_SENT:
        changes.setdefault("dispatches", 0)  # how often this state's message was sent again
    won = Step.objects.filter(pk=step.pk, state=seen, attempt=step.attempt).update(state=to, **changes)
    if not won:
        raise StepMoved(f"step {step.pk} is no longer {seen} at attempt {step.attempt}")
    step.state = to
    for name, value in changes.items():
        setattr(step, name, value)
    if event is not None:
        record(
            event,
            actor=actor,
            target=step_target(step),
            outcome=outcome,
            context=step_facts(step, was=str(seen), now=str(to), **(context or {})),
            payload=payload,
        )
    feed.append(step.job_id, [step_entry(step)], now=now)
    if to is StepState.IN_DOUBT:
        emit.step_in_doubt(step, now=now)


def step_entry(step: Step) -> feed.Entry:
    """The feed's entry that tells a step's state."""
    data = {"state": str(step.state), "key": step.key, "tool": step.tool, "seq": step.seq, "attempt": step.attempt}
    return feed.Entry(kind="step", data=data, step_id=step.pk)


def move_job(
    job: Job,
    to: JobState,
    *,
    now: datetime,
    event: Event | None = None,
    actor: Actor = ENGINE,
    context: dict[str, Any] | None = None,
    **changes: Any,
) -> None:
    """Moves a locked job; a move to its own state does nothing.

    Raises:
        IllegalTransition
    """
    seen = JobState(job.state)
    if seen is to:
        return
    if to not in JOB_MOVES[seen]:
        raise IllegalTransition(f"job {job.pk}: {seen} -> {to}")
    if to in JOB_DONE:
        changes.setdefault("finished_at", now)
    if job.concurrency_key and (to in JOB_DONE or seen in JOB_DONE):  # who comes back waits for the key anew
        changes["holds_key"] = False
        transaction.on_commit(partial(backlog.note, backlog.KEYS))
    if to is JobState.RUNNING and job.started_at is None:
        changes.setdefault("started_at", now)
    Job.objects.filter(pk=job.pk, state=seen).update(state=to, **changes)
    job.state = to
    for name, value in changes.items():
        setattr(job, name, value)
    if event is not None:
        record(
            event,
            actor=actor,
            target=job_target(job),
            outcome=str(to),
            context={"was": str(seen), "now": str(to), **(context or {})},
        )
    feed.append(job.pk, [feed.Entry(kind="job", data={"state": str(to)})], now=now)
    if to in JOB_DONE:
        emit.job_ended(job, to, now=now)
        episodes.job_ended(job, now=now)
        if job.parent_step_id is not None:
            dispatch.end_child_after_commit(job)
