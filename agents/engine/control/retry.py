"""An ended job goes on: what did not succeed runs again, what succeeded stays."""

from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from django.db import transaction

from agents.engine import keys
from agents.engine.advance import THINK, advance
from agents.engine.control import items
from agents.engine.ending import PLAN
from agents.engine.transitions import lock_job, move_job, move_step
from agents.errors import AlreadyDone, InvalidInput, MayHaveHappened, NotNow
from agents.models import Conversation, Job, Step
from agents.states import JOB_DONE, STEP_DONE, JobState, StepState
from audit.actor import Actor
from audit.kinds import Event
from tools.models import Permit
from tools.spec import Effect

AGAIN = frozenset({StepState.FAILED, StepState.REFUSED, StepState.SKIPPED, StepState.CANCELLED})


@transaction.atomic
def retry_job(
    job_id: UUID, *, by: Actor, now: datetime, from_step: str = "", did_not_happen: Collection[str] = ()
) -> Job:
    """Sets a failed or cancelled job going again: its unfinished steps, from the given one on, are decided anew. Of a
    map exactly the items that failed run again; a chunk stands for its map.

    Attempts count on, since their number is the fence; each step gets its whole budget of them again. In a job of an
    agent, what failed in earlier turns stays as the model has read it: its broken turn is tried again.

    A job that another one started goes on with it: where that one has failed since, it is retried too, and its step
    waits for this job again.

    did_not_happen: keys of steps that were cancelled in mid-act and must not run twice, which the caller has looked at.

    Raises:
        Job.DoesNotExist
        AlreadyDone: it has succeeded.
        NotNow: it has not ended, was undone, or nothing in it is left to retry; or the job that started it goes on
            without it, or its conversation has gone on.
        KeyBusy: another job has the key of the job that started it.
        MayHaveHappened: such steps are not named in `did_not_happen`.
        InvalidInput: there is no step `from_step`.
    """
    chain = [lock_job(one) for one in _lineage(job_id)]
    for parent, child in pairwise(chain):
        step = _waits_again(parent, child)
        if step is not None:
            _set_going(parent, by=by, now=now, did_not_happen=did_not_happen, awaited=(step, child))
    return _set_going(chain[-1], by=by, now=now, from_step=from_step, did_not_happen=did_not_happen)


def _lineage(job_id: UUID) -> list[UUID]:
    """The jobs above it, the outermost first, and itself: the order in which they are locked."""
    found = [job_id]
    while True:
        above = Job.objects.values_list("parent_id", flat=True).get(pk=found[0])
        if above is None:
            return found
        found.insert(0, above)


def _waits_again(parent: Job, child: Job) -> Step | None:
    """The step that has to wait for the child once more; None where it still waits. Raises NotNow: it cannot."""
    assert child.parent_step_id is not None
    step = Step.objects.get(pk=child.parent_step_id)
    if (step.spec or {}).get("child") != str(child.pk):
        raise NotNow(f"{step.key} has started another job since: retry that one.")
    if step.state not in STEP_DONE and parent.state not in JOB_DONE:
        return None
    fork = "Fork this one to run it by itself."
    if parent.state not in JOB_DONE:
        raise NotNow(f"The job that started this one goes on without it. Retry when that has ended. {fork}")
    if parent.state not in (JobState.FAILED, JobState.CANCELLED) or step.state not in AGAIN:
        raise NotNow(f"The job that started this one has {parent.state}, and does not wait for it. {fork}")
    return step


def _set_going(
    job: Job,
    *,
    by: Actor,
    now: datetime,
    from_step: str = "",
    did_not_happen: Collection[str] = (),
    awaited: tuple[Step, Job] | None = None,
) -> Job:
    """awaited: a step of it that waits for this job again, instead of starting a new one."""
    steps = list(Step.objects.filter(job=job).order_by("seq"))
    _check(job, steps)
    chosen = _chosen(job, steps, from_step)
    if not chosen:
        raise NotNow(_nothing(job, steps))
    if awaited is not None and awaited[0].pk not in {step.pk for step in chosen}:
        raise NotNow("The agent of the job that started this one has read how it ended. Fork this one to run it again.")
    _look_first(chosen, did_not_happen)
    move_job(
        job,
        JobState.RUNNING,
        now=now,
        event=Event.JOB_RETRIED,
        actor=by,
        context={"from": chosen[0].key, "steps": len(chosen), "did_not_happen": sorted(set(did_not_happen))},
        finished_at=None,
        log_archived_at=None,
        outcome="",
        cancel_requested=False,
        holds_key=False,
        deadline_at=now + (job.deadline_at - job.created_at) if job.deadline_at else None,
    )
    for step in chosen:
        changes = _afresh(step)
        if awaited is not None and step.pk == awaited[0].pk:
            changes |= _waiting_for(awaited[1], step, now=now)
        move_step(step, StepState.PENDING, now=now, event=Event.STEP_REQUEUED, actor=by, outcome="retried", **changes)
    for step in chosen:
        if step.kind == Step.Kind.MAP and step.ready_at is not None:
            items.again(job, step, [chunk for chunk in chosen if chunk.parent_id == step.pk], now=now)
    if job.concurrency_key:
        keys.enter(job, reject=awaited is not None)
    advance(job, now=now)
    return job


def _waiting_for(child: Job, step: Step, *, now: datetime) -> dict[str, Any]:
    """What the step had when it waited for this job; what that has used stands in its parent's sum already."""
    return {
        "ready_at": now,
        "started_at": step.started_at,
        "decision": step.decision,
        "approval_id": step.approval_id,
        "permit_id": step.permit_id,
        "spec": {"child": str(child.pk), "counted": child.tokens_used, "counted_cost": str(child.cost_used)},
    }


def may_have_happened(steps: Sequence[Step]) -> list[Step]:
    """Those that must not run twice, were stopped after they had begun, and so may have had their effect."""
    stopped = [step for step in steps if step.effect == Effect.ONCE and step.state == StepState.CANCELLED]
    ids = [step.permit_id for step in stopped if step.permit_id is not None]
    begun = set(Permit.objects.filter(pk__in=ids, spent_at__isnull=False).values_list("pk", flat=True))
    return [step for step in stopped if step.permit_id in begun]


def _check(job: Job, steps: Sequence[Step]) -> None:
    if job.state == JobState.SUCCEEDED:
        raise AlreadyDone("The job has succeeded: there is nothing to retry. Fork it to run a part of it again.")
    if job.state not in JOB_DONE:
        raise NotNow("The job has not ended: there is nothing to retry yet.")
    if job.kind == Job.Kind.CHAT:
        _check_turn(job)
    if job.state == JobState.COMPENSATED or any(
        step.state == StepState.COMPENSATED or step.compensates_id is not None for step in steps
    ):
        raise NotNow("What the job did was undone: it cannot go on from there. Submit it again.")


def _check_turn(job: Job) -> None:
    """The newest turn of a conversation may go on. None begins before the transaction's end, and nobody deletes it."""
    assert job.conversation_id is not None
    talk = Conversation.objects.select_for_update(of=("self",)).get(pk=job.conversation_id)
    if talk.deleted_at is not None:
        raise NotNow("Its conversation was deleted.")
    if talk.jobs.filter(kind=Job.Kind.CHAT, created_at__gt=job.created_at).exists():
        raise NotNow("The conversation has gone on since: ask again there.")


def _chosen(job: Job, steps: Sequence[Step], from_step: str) -> list[Step]:
    first = 0
    if from_step:
        found = next((step for step in steps if step.key == from_step), None)
        if found is None:
            raise InvalidInput(f"The job has no step {from_step!r}.", field="from_step")
        first = found.seq if found.parent_id is None else next(one.seq for one in steps if one.pk == found.parent_id)
    again = [step for step in steps if step.state in AGAIN and step.seq >= first]
    if not job.led:
        return again
    thought = [step for step in steps if step.tool in (THINK, PLAN) and step.state == StepState.SUCCEEDED]
    if not thought:
        return again
    # what the last answer asked for and was cut short, and the turn that reads it
    last = thought[-1].seq
    return [
        step
        for step in again
        if step.seq > last
        and (step.tool in (THINK, PLAN) or step.state == StepState.CANCELLED or step.key == from_step)
    ]


def _nothing(job: Job, steps: Sequence[Step]) -> str:
    last = next((step for step in reversed(steps) if step.tool in (THINK, PLAN)), None)
    if job.led and last is not None and last.state == StepState.SUCCEEDED:
        return f"The agent itself ended the job. Fork it at {last.key} to ask again, or submit a new one."
    return "Every step from there on has succeeded: there is nothing to retry."


def _look_first(chosen: Sequence[Step], did_not_happen: Collection[str]) -> None:
    keys = [step.key for step in may_have_happened(chosen) if step.key not in did_not_happen]
    if keys:
        raise MayHaveHappened(
            f"Stopped in mid-act, and must not happen twice: {', '.join(keys)}. Look at the target; where it did not "
            "happen, name the step in did_not_happen.",
            steps=keys,
        )


def _afresh(step: Step) -> dict[str, Any]:
    """The columns of a step that was never decided on. A map that has fanned out keeps its chunks."""
    budget = (step.retry or {}).get("max_attempts") or Step._meta.get_field("max_attempts").default
    fanned_out = step.kind == Step.Kind.MAP and step.ready_at is not None
    return {
        "max_attempts": step.attempt + int(budget),
        "losses": 0,
        "ready_at": step.ready_at if fanned_out else None,
        "spec": None if step.kind == Step.Kind.JOB else step.spec,
        "started_at": None,
        "finished_at": None,
        "result": None,
        "decision": None,
        "approval_id": None,
        "permit_id": None,
        "target_state": {},
        "preview_digest": "",
        "cancel_requested": False,
        "claimed_by": "",
        "not_before": None,
        "dispatched_at": None,
        "error_class": "",
        "error_code": "",
        "error": "",
    }
