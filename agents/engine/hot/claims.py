"""Claims of a turn."""

from typing import TYPE_CHECKING

from agents.engine.hot.rows import JobRow, StepRow
from agents.engine.hot.values import Answer, Claim, Claimed, Delivery, Otherwise
from agents.engine.hot.writes import Writes
from agents.states import JobState, StepState
from approvals.policy import published
from audit.actor import Actor, Target
from audit.ids import uuid7
from audit.kinds import Event
from tools.permits import Spent
from tools.spec import Call, Effect

if TYPE_CHECKING:
    from agents.engine.hot.turn import View


def claim(wish: Claim, view: "View", writes: Writes) -> Answer:
    """Takes the step, with the record of the intent and (but for ONCE) its permit, before anything runs."""
    step = view.steps.get(wish.step_id)
    if step is None:
        return Otherwise.BUSY
    if step.state in (StepState.RUNNING, StepState.PENDING) or step.attempt != wish.fence:
        return Otherwise.LOST
    job = view.jobs.get(step.job_id)
    if job is None:
        return Otherwise.BUSY
    plain = step.state == StepState.QUEUED and not (step.special or step.cancel_requested or step.delayed)
    if not plain or not job.plain or job.limited(step.tool) or step.permit_id is None or step.seen:
        return Otherwise.GENERAL
    decision = step.decided
    known = published.of(job.policies)
    if decision.get("passing") or decision.get("versions") != known.digest or known.frozen(step.tool, writes.now):
        return Otherwise.GENERAL  # it is decided on anew
    call = call_of(step)
    digest = call.digest()
    writes.add("claimed", id=str(step.id), attempt=step.attempt, worker=wish.delivery.worker)
    if step.effect != Effect.ONCE:
        writes.add("spent", id=str(step.permit_id), digest=digest, worker=wish.delivery.worker[:200])
    return begin(job, step, call, digest, writes, delivery=wish.delivery, since=wish.since)


def begin(
    job: JobRow, step: StepRow, call: Call, digest: str, writes: Writes, *, delivery: Delivery, since: float
) -> Claimed:
    """The rest of a claim, whose row and permit the caller writes: attempt, record, feed, job."""
    assert step.permit_id is not None
    step.state, step.attempt = StepState.RUNNING, step.attempt + 1
    writes.needs_disk(step.effect)
    writes.add(
        "begun",
        id=str(uuid7()),
        step=str(step.id),
        number=step.attempt,
        queue=delivery.queue,
        worker=delivery.worker,
        task=delivery.task_id,
    )
    writes.record(
        Event.STEP_DISPATCHED,
        actor=Actor.worker(delivery.worker),
        target=Target(type="step", id=str(step.id)),
        context={**step.facts, "queue": delivery.queue, "permit": str(step.permit_id), "digest": digest},
    )
    writes.tell(job, step)
    if job.state == JobState.QUEUED:
        job.state = JobState.RUNNING
        writes.tell(job)
    permit = Spent(id=step.permit_id, subject=str(step.id), digest=digest)
    return Claimed(
        step_id=step.id,
        job_id=job.id,
        key=step.key,
        attempt=step.attempt,
        call=call,
        permit=step.permit_id if step.effect == Effect.ONCE else permit,
        since=since,
    )


def call_of(step: StepRow) -> Call:
    """See `agents.engine.gate.call_of`."""
    decision = step.decided
    return Call(
        tool=step.tool,
        schema_version=step.schema_version,
        arguments=step.arguments,
        workspace_id=str(step.job_id),
        target_state=step.target_state,
        preview_digest=step.preview_digest,
        policy=decision.get("policy_version_id") or "",
        constraints=decision.get("constraints") or {},
    )
