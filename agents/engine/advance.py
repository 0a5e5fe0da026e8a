"""What comes next in a job: readies steps whose needs are met, and ends the job when nothing is open."""

from datetime import datetime

from agents.engine.gate import again, gate
from agents.engine.transitions import move_job, move_step
from agents.models import Job, Step
from agents.states import STEP_DONE, STEP_OPEN, JobState, StepState
from audit.kinds import Event

THINK = "llm.think"
_PARKED = {StepState.WAITING_APPROVAL, StepState.IN_DOUBT}


def advance(job: Job, *, now: datetime) -> None:
    """Moves everything that can move. The caller holds the job's row lock and commits."""
    while True:
        steps = list(Step.objects.filter(job=job).order_by("seq"))
        if paused(job) or not _release(job, steps, now=now):
            break
    _settle_job(job, steps, now=now)


def paused(job: Job) -> bool:
    """Nothing of it may begin: a person said so, or another job has its key. What is cancelled goes on to its end."""
    waits_for_key = bool(job.concurrency_key) and not job.holds_key
    return (job.state == JobState.PAUSED or waits_for_key) and not job.cancel_requested


def _release(job: Job, steps: list[Step], *, now: datetime) -> bool:
    """True where a step ended here (skipped, refused), so that others may now be free."""
    by_key = {step.key: step for step in steps}
    ended = False
    for step in steps:
        if step.state != StepState.PENDING:
            continue
        needed = [by_key[key] for key in step.needs]
        if any(one.state not in STEP_DONE for one in needed):
            continue
        failed = [one for one in needed if one.state != StepState.SUCCEEDED]
        if job.cancel_requested:
            move_step(step, StepState.CANCELLED, now=now, event=Event.STEP_CANCELLED)
        elif step.needs_success and failed:
            why = f"{failed[0].key} {failed[0].state}"
            move_step(
                step,
                StepState.SKIPPED,
                now=now,
                event=Event.STEP_SKIPPED,
                context={"because": failed[0].key},
                error_code="skipped",
                error=f"Skipped: {why}.",
            )
        elif step.approval_id is not None:  # people approved it while the job was paused
            again(job, step, now=now, not_before=step.not_before)
        else:
            gate(job, step, now=now)
        ended = ended or step.state in STEP_DONE
    return ended


def _settle_job(job: Job, steps: list[Step], *, now: datetime) -> None:
    open_states = {StepState(step.state) for step in steps if step.state in STEP_OPEN}
    if open_states and job.state == JobState.PAUSED:
        return
    if open_states:
        active = open_states - {StepState.PENDING}
        if active and active <= _PARKED:
            move_job(job, JobState.WAITING, now=now)
        elif job.state == JobState.WAITING or StepState.RUNNING in active:
            move_job(job, JobState.RUNNING, now=now)
        return
    state, outcome = _ending(job, steps)
    move_job(
        job,
        state,
        now=now,
        event=Event.JOB_FINISHED,
        context={"steps": len(steps), "tokens": job.tokens_used},
        outcome=outcome,
    )


def _ending(job: Job, steps: list[Step]) -> tuple[JobState, str]:
    if job.cancel_requested:
        return JobState.CANCELLED, job.outcome or "Cancelled."
    if job.kind == Job.Kind.GOAL:
        thinks = [step for step in steps if step.tool == THINK]
        last = thinks[-1] if thinks else None
        if last is not None and last.state == StepState.SUCCEEDED and last.result is not None:
            finish = last.result["data"].get("finish") or {}
            return (JobState.SUCCEEDED if finish.get("success") else JobState.FAILED), str(finish.get("summary", ""))
    bad = [step for step in steps if step.state != StepState.SUCCEEDED]
    if not bad:
        return JobState.SUCCEEDED, f"All {len(steps)} steps succeeded."
    first = next((step for step in bad if step.state != StepState.SKIPPED), bad[0])
    return JobState.FAILED, f"Step {first.key} ({first.tool}) {first.state}: {first.error}".strip()
