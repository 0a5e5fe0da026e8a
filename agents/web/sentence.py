"""A job's state in one sentence: what it does, or for whom it waits."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from agents.engine import keys
from agents.engine.failures import tries
from agents.models import Job, Step
from agents.states import JobState, StepState
from agents.web.labels import describe, under_way
from agents.web.maps import Progress
from agents.web.words import count, duration, first_line, readable, rough
from approvals.models import ApprovalRequest

THINK, PLAN, REVIEW = "llm.think", "llm.plan", "plan.review"


@dataclass(frozen=True, slots=True)
class Sentence:
    """text; tone is the state that colours it; href, where the reader can go on, by the words of `link`."""

    text: str
    tone: str
    href: str = ""
    link: str = "Open the request"


def sentence(
    job: Job,
    steps: Sequence[Step],
    requests: Mapping[str, Sequence[ApprovalRequest]],
    now: datetime,
    *,
    openable: Collection[UUID] = (),
    maps: Mapping[UUID, Progress] | None = None,
) -> Sentence:
    """`steps` in order, `requests` by step id (text); openable: the requests and jobs that the reader may open; maps: how far
    each map among the steps is."""
    if job.done:
        return _ended(job, steps)
    if job.cancel_requested:
        running = [step for step in steps if step.state == StepState.RUNNING]
        return Sentence(f"Is being cancelled: {count(len(running), 'step')} still to stop.", "cancelled")
    if job.state == JobState.PAUSED:
        left = sum(step.state == StepState.RUNNING for step in steps)
        more = f": {count(left, 'step')} still {'runs' if left == 1 else 'run'}" if left else ""
        why = f" {job.paused_because}" if job.paused_because else ""
        return Sentence(f"Is paused{more}; nothing else begins until it is resumed.{why}", "waiting")
    by_state: dict[str, list[Step]] = {}
    for step in steps:
        by_state.setdefault(step.state, []).append(step)
    waiting = by_state.get(StepState.WAITING_APPROVAL, [])
    asked = f"; {count(len(waiting), 'step waits', 'steps wait')} for people" if waiting else ""
    runs = by_state.get(StepState.RUNNING, [])
    begun = [step for step in by_state.get(StepState.PENDING, []) if under_way(step)]
    if runs and not (begun and all(step.parent_id for step in runs)):
        return Sentence(_running(runs, now) + asked + ".", "running")
    if begun and (runs or not waiting):
        return _begun(begun, asked, maps or {}, openable)
    if waiting:
        return _waiting(waiting, requests, now, openable)
    if by_state.get(StepState.IN_DOUBT):
        step = by_state[StepState.IN_DOUBT][0]
        return Sentence(f"{step.tool} was lost while it ran: it may have happened or not.", "in_doubt")
    if by_state.get(StepState.READY):
        step = by_state[StepState.READY][0]
        return Sentence(f"Prepares the preview of {step.tool} for the approvers.", "running")
    if by_state.get(StepState.QUEUED):
        return _queued(by_state[StepState.QUEUED], now)
    if job.starts_at is not None and job.starts_at > now:
        return Sentence(f"Begins on {job.starts_at:%Y-%m-%d at %H:%M:%S} UTC.", "queued")
    if first := keys.holder(job):
        text = f"Waits for job {str(first.pk)[-12:]} (key {job.concurrency_key})."
        return Sentence(text, "queued", first.get_absolute_url(), "Open the job")
    return Sentence("Waits for its first step.", "queued")


def _begun(steps: Sequence[Step], asked: str, maps: Mapping[UUID, Progress], openable: Collection[UUID]) -> Sentence:
    """Steps that no worker runs: maps, and jobs of their own."""
    step = steps[0]
    more = f" and {count(len(steps) - 1, 'more step')}" if len(steps) > 1 else ""
    if step.kind == Step.Kind.MAP:
        progress = maps.get(step.pk)
        far = f" ({progress.text})" if progress is not None else ""
        return Sentence(f"Works through {step.key}{far}{more}{asked}.", "running")
    child = (step.spec or {}).get("child")
    href = f"/jobs/{child}/" if child and UUID(child) in openable else ""
    return Sentence(f"Waits for {step.key}, a job of its own{more}{asked}.", "running", href, "Open the job")


def _running(steps: Sequence[Step], now: datetime) -> str:
    step = steps[0]
    since = f" for {rough(now - step.started_at)}" if step.started_at else ""
    more = f" and {count(len(steps) - 1, 'more step')}" if len(steps) > 1 else ""
    again = f", attempt {tries(step)}" if tries(step) > 1 else ""
    if step.tool in (THINK, PLAN):
        return f"The model thinks{since}{again}{more}"
    return f"Runs {step.tool}{more} on worker {step.claimed_by or step.queue}{since}{again}"


def _waiting(
    steps: Sequence[Step],
    requests: Mapping[str, Sequence[ApprovalRequest]],
    now: datetime,
    openable: Collection[UUID],
) -> Sentence:
    step = steps[0]
    request = next((one for one in requests.get(str(step.pk), []) if one.state == "pending"), None)
    more = f" (and {count(len(steps) - 1, 'more')})" if len(steps) > 1 else ""
    if request is None:
        return Sentence(f"Waits for people: {describe(step)}{more}.", "waiting")
    who = request.approvers.name if request.approvers else "an answer"
    what = first_line(readable(request.title), 140)
    waited = rough(now - request.created_at)
    href = request.get_absolute_url() if request.pk in openable else ""
    if step.tool == REVIEW:
        return Sentence(
            f"Waits {waited} for somebody to look at the plan{more}.",
            "waiting",
            f"/jobs/{step.job_id}/plan/",
            "Open the plan",
        )
    return Sentence(f"Waits {waited} for {who}: {what}{more}", "waiting", href)


def _queued(steps: Sequence[Step], now: datetime) -> Sentence:
    later = [step for step in steps if step.not_before is not None and step.not_before > now]
    step = steps[0]
    if len(later) == len(steps) and step.not_before is not None and step.waits_for:
        left = rough(step.not_before - now)
        return Sentence(f"Waits for the rate limit {step.waits_for} of {step.tool}: {left}.", "queued")
    if len(later) == len(steps) and step.not_before is not None:
        return Sentence(
            f"Tries {step.tool} again in {rough(step.not_before - now)}: {first_line(readable(step.error))}", "queued"
        )
    since = f" for {rough(now - step.ready_at)}" if step.ready_at else ""
    return Sentence(f"Waits{since} for a worker on queue {step.queue}: {step.tool}.", "queued")


def _ended(job: Job, steps: Sequence[Step]) -> Sentence:
    took = f" after {duration(job.finished_at - (job.started_at or job.created_at))}" if job.finished_at else ""
    own = [step for step in steps if step.parent_id is None]
    done = count(sum(step.state == StepState.SUCCEEDED for step in own), "step succeeded", "steps succeeded")
    verb = {
        JobState.SUCCEEDED: "Succeeded",
        JobState.FAILED: "Failed",
        JobState.CANCELLED: "Was cancelled",
        JobState.COMPENSATED: "Was undone",
    }
    return Sentence(f"{verb[JobState(job.state)]}{took}; {done} of {len(own)}.", job.state)
