"""Settlements of a turn: a call succeeded, and what needed it goes on."""

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg import Cursor

from agents.connections import Raw
from agents.engine.ending import PLAN, THINK
from agents.engine.facts import of_arguments, recorded_facts
from agents.engine.hot import sql
from agents.engine.hot.claims import begin, call_of
from agents.engine.hot.plans import Plan, plans
from agents.engine.hot.rows import ACTIVE, JobRow, StepRow
from agents.engine.hot.values import Aftermath, Answer, Claimed, Message, Otherwise, Settled, Success
from agents.engine.hot.writes import Writes
from agents.models.tenant import DEFAULT
from agents.provenance import labels
from agents.states import STEP_DONE, JobState, StepState
from agents.triggers import emit
from approvals.policy import published
from approvals.policy.evaluate import ALLOW, Decision, PolicyInput, evaluate_by
from audit.actor import Actor, Target
from audit.ids import uuid7
from audit.kinds import Event
from tools import registry
from tools import risk as risks
from tools.errors import UnknownTool
from tools.spec import Effect, Result

if TYPE_CHECKING:
    from agents.engine.hot.turn import View

GROWS = frozenset({THINK, PLAN, "plan.run"})  # what the job does next is told by their results
POLICY, ENGINE = Actor.system("policy"), Actor.system("engine")


def settle(
    wish: Success, view: "View", writes: Writes, after: Aftermath, outcomes: dict[UUID, str], raw: Raw
) -> Answer:
    """Ends the step, lets what is free now through the gate, and begins the next step here where that is asked for.

    Nothing is put into `writes` before all of it is known to be plain.
    """
    mine = wish.claimed
    step, job = view.steps.get(mine.step_id), view.jobs.get(mine.job_id)
    if step is None or job is None:
        return Otherwise.BUSY
    held = step.state == StepState.RUNNING and step.attempt == mine.attempt and not step.cancel_requested
    counted = step.tool in GROWS or "usage" in wish.result.data  # tokens, which the job's sum has to know
    plain = held and not step.special and not counted and not job.limited(step.tool) and wish.result.ok
    if not plain or not job.plain or job.state != JobState.RUNNING:
        return Otherwise.GENERAL
    plan = plans.known(job.id)
    if plan is None or plan.last_seq != view.last_seq.get(job.id):
        plan = plans.load(raw, job.id)
        if not set(plan.touched_by(step.key)) <= set(view.steps):
            return Otherwise.GENERAL
    free = _free(step, plan, view)
    if free is None:
        return Otherwise.GENERAL
    decisions = []
    for one in free:
        decided = decide(job, one, writes.now)
        if decided is None:
            return Otherwise.GENERAL
        decisions.append(decided)
    ends = not free and _ends(job, step, view, raw)
    if ends is None:
        return Otherwise.GENERAL
    _succeed(job, step, wish, writes)
    settled = Settled()
    for one, (decision, risk) in zip(free, decisions, strict=True):
        follow = wish.follow and settled.next is None and one.queue == wish.delivery.queue and not job.limited(one.tool)
        claimed = release(job, one, decision, risk, writes, follow=wish if follow else None)
        if claimed is not None:
            settled.next = claimed
        else:
            after.messages.append(Message(one.id, one.attempt, one.queue))
    if ends:
        _end(job, plan, writes, outcomes)
    return settled


def _free(step: StepRow, plan: Plan, view: "View") -> list[StepRow] | None:
    """The steps that this end sets free; None where one of them is not plain, or cannot be told."""
    free = []
    for step_id in plan.after.get(step.key, ()):
        one = view.steps.get(step_id)
        if one is None or one.special or one.seen:
            return None
        if one.state != StepState.PENDING:
            continue
        needed = [view.steps.get(plan.ids[key]) for key in one.needs if key != step.key]
        if any(other is None for other in needed):
            return None
        states = [other.state for other in needed if other is not None]
        if any(state not in STEP_DONE for state in states):
            continue
        if any(state != StepState.SUCCEEDED for state in states):
            return None
        free.append(one)
    return free


def decide(job: JobRow, step: StepRow, now: datetime) -> tuple[Decision, str] | None:
    """The policies' leave, and the risk; None where they say anything else, have to look something up, or the tool is not
    plain."""
    known = published.of(job.policies)
    wanted = known.needs(step.tool, str(step.effect))
    if wanted.passing or known.frozen(step.tool, now):
        return None
    try:
        tool = registry.get(step.tool)
    except UnknownTool:
        return None
    if tool.asks_person:
        return None
    risk = risks.assess(tool, step.arguments, risks.Place(default_branch=job.branch, environment=job.environment))
    given = PolicyInput(
        tool=step.tool,
        arguments=step.arguments,
        effect=step.effect,
        queue=step.queue,
        risk=str(risk.level),
        risk_score=risk.score,
        agent=job.agent,
        owner=job.owner,
        owner_id=job.owner_id,
        groups=job.groups,
        repository=job.repository,
        branch=job.branch,
        labels=job.labels,
        job_id=str(job.id),
        step_id=str(step.id),
        kind=job.kind,
        tenant=job.tenant or DEFAULT,
        environment=job.environment,
        now=now,
    )
    if wanted.facts:
        given = replace(given, **of_arguments(given, step.arguments, wanted.facts))
        if given.target_branch is None:
            return None
    decision = evaluate_by(job.policies, given)
    return (decision, str(risk.level)) if decision.effect == ALLOW else None


def _ends(job: JobRow, step: StepRow, view: "View", raw: Raw) -> bool | None:
    """Does the job succeed with this step? None: it neither does nor simply goes on."""
    siblings = [one for one in view.steps.values() if one.job_id == job.id and one.id != step.id]
    if any(one.state in ACTIVE for one in siblings):
        return False  # it goes on; whether it is RUNNING or WAITING does not change by what only ended
    cursor = Cursor(raw)
    cursor.execute(sql.REST, {"job": job.id, "touched": [step.id, *(one.id for one in siblings)]}, prepare=True)
    found = cursor.fetchone()
    assert found is not None
    goes_on, unlike = found
    if goes_on:
        return False
    if unlike or job.ends_specially or any(one.state != StepState.SUCCEEDED for one in siblings):
        return None
    cursor.execute(emit.LISTENED, {"owner": job.owner_id}, prepare=True)
    listened = cursor.fetchone()
    return None if listened is not None and listened[0] else True  # the general way tells who listens


def _succeed(job: JobRow, step: StepRow, wish: Success, writes: Writes) -> None:
    result = wish.result
    step.state = StepState.SUCCEEDED
    writes.needs_disk(step.effect)
    marks = labels.of_result(step, result)
    writes.add("settled", id=str(step.id), attempt=step.attempt, result=result_json(result), labels=marks)
    writes.record(
        Event.STEP_CONFIRMED,
        actor=Actor.worker(wish.delivery.worker),
        target=Target(type="step", id=str(step.id)),
        context={
            **step.facts,
            "was": "running",
            "now": "succeeded",
            "exit_code": result.exit_code,
            "tier": result.sandbox.get("tier", ""),
            "tokens": 0,
        },
        payload={"summary": result.summary, "text": result.text},
    )
    writes.tell(job, step)


def release(
    job: JobRow, step: StepRow, decision: Decision, risk: str, writes: Writes, *, follow: Success | None = None
) -> Claimed | None:
    """Lets a step through the gate with its permit. follow: whose thread goes on with it, and claims it at once."""
    step.decision = decision.as_json()
    call = call_of(step)
    digest = call.digest()
    target = Target(type="step", id=str(step.id))
    writes.record(
        Event.STEP_DECIDED,
        actor=POLICY,
        target=target,
        outcome=decision.effect,
        context={
            **step.facts,
            "policy": decision.policy,
            "rule": decision.rule,
            "digest": digest,
            "risk": risk,
            **recorded_facts(decision),
        },
        payload={"reason": decision.reason},
    )
    step.permit_id = uuid7()
    worker = follow.delivery.worker if follow else None
    writes.add(
        "granted",
        id=str(step.permit_id),
        subject=str(step.id),
        digest=digest,
        by=f"policy {decision.policy} rule {decision.rule}",
        worker=worker and (None if step.effect == Effect.ONCE else worker[:200]),
    )
    writes.add(
        "released",
        id=str(step.id),
        attempt=step.attempt,
        decision=step.decision,
        risk=risk,
        permit=str(step.permit_id),
        worker=worker,
    )
    if follow:
        return begin(job, step, call, digest, writes, delivery=follow.delivery, since=follow.since)
    step.state = StepState.QUEUED
    writes.tell(job, step)
    return None


def _end(job: JobRow, plan: Plan, writes: Writes, outcomes: dict[UUID, str]) -> None:
    outcomes[job.id] = f"All {len(plan.ids)} steps succeeded."
    job.state = JobState.SUCCEEDED
    writes.record(
        Event.JOB_FINISHED,
        actor=ENGINE,
        target=Target(type="job", id=str(job.id)),
        outcome="succeeded",
        context={"was": "running", "now": "succeeded", "steps": len(plan.ids), "tokens": job.tokens_used},
    )
    writes.tell(job)


def result_json(result: Result) -> dict[str, Any]:
    """See `agents.engine.settle.result_json`."""
    return {
        "ok": result.ok,
        "summary": result.summary,
        "data": dict(result.data),
        "text": result.text,
        "exit_code": result.exit_code,
        "truncated_bytes": result.truncated_bytes,
        "sandbox": dict(result.sandbox),
    }
