"""A person changes a plan before it runs, and lets it run."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet

from agents.engine import forecast, planned
from agents.engine.transitions import lock_job
from agents.errors import InvalidPlan, NotNow
from agents.models import Job, Plan, PromptVersion, Step
from agents.payload import unstorable
from agents.planning import prompt, shape
from agents.states import StepState
from approvals.decisions import decide
from approvals.models import Vote


def waiting(job: Job) -> Step | None:
    """The question about the plan that waits for an answer; None where nobody is asked."""
    return Step.objects.filter(job=job, tool=planned.REVIEW, state=StepState.WAITING_APPROVAL).order_by("-seq").first()


def versions_of(job: Job) -> QuerySet[Plan]:
    """The first one first, with all that a page tells of each."""
    return Plan.objects.filter(job=job).select_related("author", "step__prompt_use__version__prompt").order_by("number")


def asked_by(plan: Plan) -> PromptVersion | None:
    """The version of the prompt by which the agent was asked for this plan; None where a person wrote it, or the server
    had none in force."""
    use = getattr(plan.step, "prompt_use", None) if plan.origin == Plan.Origin.AGENT else None
    return use.version if use is not None else None


def checked(job: Job, plan: Plan, steps: Sequence[Mapping[str, Any]], *, now: datetime) -> dict[str, dict[str, Any]]:
    """What policy says of changed steps, by key. Writes nothing.

    Raises:
        InvalidPlan: with every problem; also where policy would refuse a step.
    """
    given = shape.normal(steps)
    found = [(f"steps{path}", what) for path, what in unstorable(given, "")]
    if not found:
        around = prompt.look(job, round=plan.round, max_replans=0)
        names = {tool.name for tool in around.tools}
        before = {one[name] for one in plan.steps for name in ("key", "instead_of")}
        found = shape.problems(given, tools=names, ended=around.ended, before=before, room=around.room)
    if found:
        raise InvalidPlan(shape.told(found), problems=found)
    said = forecast.of(job, planned.new_steps(given), now=now)
    refused = {key: one for key, one in said.items() if one["effect"] == "deny"}
    if refused:
        places = {one["key"]: index for index, one in enumerate(given)}
        problems = [
            (f"steps[{places.get(key.removesuffix('.check'), 0)}]", f"Policy refuses {key}: {one['reason']}")
            for key, one in refused.items()
        ]
        raise InvalidPlan(shape.told(problems), problems=problems)
    return said


@transaction.atomic
def change(
    job_id: UUID, number: int, steps: Sequence[Mapping[str, Any]], *, note: str = "", by: User, now: datetime
) -> Plan:
    """The next version of the plan `number`, as this person wants it. The same steps change nothing.

    Raises:
        NotNow: the plan is no longer the one that waits for people.
        InvalidPlan
    """
    job = lock_job(job_id)
    plan = planned.alive(job)
    if plan is None or plan.state != Plan.State.PROPOSED or waiting(job) is None:
        raise NotNow("The plan does not wait for a person any more: it cannot be changed now.")
    if plan.number != number:
        raise NotNow(f"Plan {number} was replaced by plan {plan.number} meanwhile: look at that one.")
    given = shape.normal(steps)
    wrong = list(unstorable(note, "note"))
    if wrong:
        raise InvalidPlan(shape.told(wrong), problems=wrong)
    checked(job, plan, given, now=now)
    if given == plan.steps:
        return plan
    return planned.new_version(job, given, now=now, round=plan.round, note=note[:2000], by=by.pk, step=plan.step)


def run(job: Job, number: int, *, by: User, now: datetime) -> None:
    """Answers the question about the plan: this version runs. Not to be called inside a transaction.

    Raises:
        NotNow: nobody is asked, or the plan is another version by now.
        approvals.errors.DecisionError: `by` is none of those who may answer, or somebody was quicker.
    """
    _answer(job, number, planned.go(number), by=by, now=now)


def send_back(job: Job, number: int, why: str, *, by: User, now: datetime) -> None:
    """Answers the question about the plan: it is not to run, and why. The agent plans anew. Raises as `run` does."""
    _answer(job, number, f"Not like this: {why}", by=by, now=now)


def _answer(job: Job, number: int, words: str, *, by: User, now: datetime) -> None:
    step, plan = waiting(job), planned.alive(job)
    if step is None or step.approval_id is None or plan is None:
        raise NotNow("The plan does not wait for a person any more.")
    if plan.number != number:
        raise NotNow(f"Plan {number} was replaced by plan {plan.number} meanwhile: look at that one.")
    decide(request_id=step.approval_id, by=by, verdict=Vote.Verdict.ANSWER, reason=words, channel="page", now=now)
