"""Jobs that run by a plan: what a plan's making, its review and its release lead to.

The steps of one round, all of them rows like any other:
    plan-1    llm.plan     the model makes a plan, or says how the job ends
    review-1  plan.review  a question to people, where a person is to look first: they run it, change it, or say what is wrong
    run-1     plan.run     the plan as a whole before the policies; when it succeeds, its steps are appended
    …                      the plan's steps, each decided on by itself; a success check is a step `KEY.check`
    plan-2    llm.plan     reads how they ended: finishes, or plans anew, at most `max_replans` times

A plan that policy refuses in part is not begun: the next round reads why.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Max

from agents.engine import forecast, intake
from agents.engine.ending import PLAN
from agents.engine.expressions import templated
from agents.engine.gate import proposer
from agents.engine.transitions import job_target
from agents.models import Job, Plan, Step
from agents.provenance import labels
from agents.states import StepState
from audit.actor import Actor
from audit.append import record
from audit.canonical import canonical_json
from audit.kinds import Event
from tools.spec import Result

MAKE, REVIEW, RUN, CHECK = PLAN, "plan.review", "plan.run", "plan.check"
TOOLS = frozenset({MAKE, REVIEW, RUN})
PREPARE = intake.PREPARE
_GO = re.compile(r"(?:run|yes|ok|go)(?: (?:it|plan))?(?: (\d+))?[.!]*", re.IGNORECASE)


def went_on(job: Job, step: Step, result: Result, *, now: datetime) -> None:
    """A step of `TOOLS` succeeded: what follows. The job's row is locked, and `advance` comes next."""
    if step.tool == MAKE:
        _made(job, step, result, now=now)
    elif step.tool == REVIEW:
        _reviewed(job, step, str(result.data.get("answer") or result.text), now=now)
    elif step.tool == RUN:
        _run(job, step, now=now)


def alive(job: Job) -> Plan | None:
    """The plan that is proposed or runs; None before the first and after the last."""
    return Plan.objects.filter(job=job, state__in=[Plan.State.PROPOSED, Plan.State.RUNNING]).first()


def new_version(
    job: Job,
    steps: list[dict[str, Any]],
    *,
    now: datetime,
    round: int,
    note: str = "",
    by: int | None = None,
    step: Step | None = None,
    prompt: Mapping[str, Any] | None = None,
) -> Plan:
    """Writes the next version of a locked job's plan, with what policy says of its steps today; the one before is
    replaced. by: the person who wrote it, None for the agent; prompt: the version that it was asked by, for the record."""
    Plan.objects.filter(job=job, state__in=[Plan.State.PROPOSED, Plan.State.RUNNING]).update(state=Plan.State.REPLACED)
    number = (Plan.objects.filter(job=job).aggregate(last=Max("number"))["last"] or 0) + 1
    plan = Plan.objects.create(
        job=job,
        number=number,
        round=round,
        origin=Plan.Origin.AGENT if by is None else Plan.Origin.PERSON,
        author_id=by,
        step=step,
        steps=steps,
        note=note,
        forecast=forecast.of(job, new_steps(steps), now=now),
        before_untrusted=by is not None or not labels.untrusted(job.pk),
        sha256=hashlib.sha256(canonical_json(steps)).hexdigest(),
        created_at=now,
    )
    record(
        Event.PLAN_PROPOSED if by is None else Event.PLAN_EDITED,
        actor=proposer(job) if by is None else Actor.user(by),
        target=job_target(job),
        context={
            "plan": number,
            "round": round,
            "steps": len(steps),
            "sha256": plan.sha256,
            **({"prompt": dict(prompt)} if prompt else {}),
        },
        payload={"steps": steps, "note": note},
    )
    return plan


def new_steps(steps: Sequence[Mapping[str, Any]]) -> list[intake.NewStep]:
    """The rows that a plan becomes: a step each, and one for each success check, which what needs the step waits for."""
    checked = {str(one["key"]): f"{one['key']}.check" for one in steps if one["success_check"]}
    mine = {str(one["key"]) for one in steps}
    made = []
    for one in steps:
        needs = [need for need in one["needs"] if need in mine]
        needs += [checked[need] for need in needs if need in checked]
        holes = templated(one["arguments"])
        made.append(
            intake.NewStep(
                key=one["key"],
                tool=one["tool"],
                arguments={} if holes else one["arguments"],
                template=one["arguments"] if holes else None,
                needs=needs,
                reason=one["reason"],
            )
        )
        if one["success_check"]:
            holds = {"holds": "${{ " + one["success_check"] + " }}", "check": one["success_check"], "of": one["key"]}
            key = checked[one["key"]]
            made.append(intake.NewStep(key=key, tool=CHECK, arguments={}, template=holds, needs=[one["key"]]))
    return made


def arguments_of(plan: Plan) -> dict[str, Any]:
    """Of the `plan.run` that stands for this plan: all that a policy may want to know of it."""
    return {
        "plan": plan.number,
        "round": plan.round,
        "sha256": plan.sha256,
        "origin": str(plan.origin),
        "tools": sorted({one["tool"] for one in plan.steps}),
        "steps": [{name: one[name] for name in ("key", "tool", "arguments", "needs")} for one in plan.steps],
    }


def refused_by_policy(plan: Plan) -> dict[str, str]:
    """{key: why} of the steps that policy would refuse as things stand."""
    return {key: str(one.get("reason", "")) for key, one in plan.forecast.items() if one.get("effect") == "deny"}


def _made(job: Job, step: Step, result: Result, *, now: datetime) -> None:
    plan = alive(job)
    if result.data.get("finish") is not None:
        if plan is not None:
            _state(plan, Plan.State.ENDED)
        return
    round = int(step.arguments["round"])
    proposed = new_version(
        job,
        list(result.data["steps"]),
        now=now,
        round=round,
        note=str(result.data.get("note") or ""),
        step=step,
        prompt=result.data.get("prompt"),
    )
    if refused_by_policy(proposed):
        _replan(job, step, now=now)
    elif step.arguments.get("review"):
        _review(job, proposed, step, now=now)
    else:
        _release(job, proposed, step, now=now)


def go(number: int) -> str:
    """The answer that lets this version of a plan run, and no other."""
    return f"run {number}"


def _review(job: Job, plan: Plan, made: Step, *, now: datetime) -> None:
    earlier = Step.objects.filter(job=job, tool=REVIEW, key__startswith=f"review-{plan.round}").count()
    key = f"review-{plan.round}" + (f".{earlier + 1}" if earlier else "")
    question = (
        f"The agent has made a plan of {len(plan.steps)} steps. Look at it, and change it where you like, at "
        f"{job.get_absolute_url()}plan/ . Answer “run” to begin, or say what is wrong with it."
    )
    arguments = {"plan": plan.number, "question": question}
    review = intake.NewStep(key=key, tool=REVIEW, arguments=arguments)
    intake.add_steps(job, [review], now=now, actor=proposer(job), proposed_by=made)


def _reviewed(job: Job, step: Step, answer: str, *, now: datetime) -> None:
    """People have looked at the plan. What is no leave to run is what they want otherwise."""
    plan = alive(job)
    made = step.proposed_by
    if plan is None or made is None:
        return
    said = _GO.fullmatch(answer.strip())
    if said is None:
        _replan(job, made, now=now)
    elif said[1] and int(said[1]) != plan.number:  # another changed it in that moment: it is looked at once more
        _review(job, plan, made, now=now)
    else:
        _release(job, plan, made, now=now)


def _release(job: Job, plan: Plan, made: Step, *, now: datetime) -> None:
    run = intake.NewStep(key=f"run-{plan.round}", tool=RUN, arguments=arguments_of(plan), reason=plan.note[:2000])
    after = _next(made, needs=[run.key])
    intake.add_steps(job, [run, after], now=now, actor=proposer(job), proposed_by=made)


def _replan(job: Job, made: Step, *, now: datetime) -> None:
    intake.add_steps(job, [_next(made, needs=[])], now=now, actor=proposer(job), proposed_by=made)


def _next(made: Step, *, needs: Sequence[str]) -> intake.NewStep:
    number = int(made.arguments["round"]) + 1
    arguments = {**made.arguments, "round": number}
    return intake.NewStep(key=f"plan-{number}", tool=MAKE, arguments=arguments, needs=needs, needs_success=False)


def _run(job: Job, step: Step, *, now: datetime) -> None:
    """The plan was let through: its steps come, and the turn that reads how they ended waits for them."""
    plan = Plan.objects.filter(job=job, number=step.arguments["plan"], state=Plan.State.PROPOSED).first()
    if plan is None:
        return
    rows = new_steps(plan.steps)
    actor = Actor.user(plan.author_id) if plan.author_id else proposer(job)
    intake.add_steps(job, rows, now=now, actor=actor, proposed_by=plan.step)
    after = Step.objects.filter(job=job, key=f"plan-{plan.round + 1}", state=StepState.PENDING)
    after.update(needs=[step.key, *(row.key for row in rows)])
    _state(plan, Plan.State.RUNNING)


def _state(plan: Plan, state: Plan.State) -> None:
    Plan.objects.filter(pk=plan.pk, state=plan.state).update(state=state)
    plan.state = state
