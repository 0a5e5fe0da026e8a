"""Jobs that a step starts and waits for: a sub-goal for an agent, or a workflow.

Such a step (`Step.Kind.JOB`) is decided on as every other; then it stays pending, with `ready_at` set and a permit
issued, until its child job has ended. A message to the `control` queue starts the child, another ends the step, and
the sweeper does both where a message was lost. Parent and child are never locked in one transaction but for the birth
of the child, so that neither waits for the other.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet, Sum

from agents import feed, teams
from agents.engine import grants, recheck, stale
from agents.engine.advance import advance
from agents.engine.cancel import cancel_job
from agents.engine.gate import call_of, proposer
from agents.engine.intake import NewJob, create_job
from agents.engine.settle import fail, result_json
from agents.engine.transitions import ENGINE, lock_job, lock_job_of, move_step, step_entry
from agents.errors import AgentsError
from agents.models import Agent, Job, Step
from agents.states import JOB_DONE, JobState, StepState
from agents.workflows.compile import for_child
from audit.kinds import Event
from tools import permits
from tools.errors import ToolError
from tools.spec import Result

DEPTH_MAX = 5
BATCH = 100


class CannotDelegate(AgentsError):
    """The job may not start this one: too deep, or nothing is left of its budget."""

    code = "cannot_delegate"


@transaction.atomic
def start(step_id: UUID, *, now: datetime) -> UUID | None:
    """Starts the child job of a step that waits for one, once; the child's id, None where there is nothing to start."""
    approval = recheck.hold(step_id)  # before the job, as everywhere
    try:
        job = lock_job_of(step_id)
    except Job.DoesNotExist:
        return None
    step = _waiting().filter(pk=step_id, spec__isnull=True).first()
    if step is None or job.cancel_requested or job.state == JobState.PAUSED:
        return None
    if not (recheck.stands(job, step, approval, now=now) and stale.stands(job, step, now=now)):
        return None
    recheck.begun(approval)
    assert step.permit_id is not None
    try:
        permits.spend(step.permit_id, digest=call_of(step).digest(), by="engine", now=now, subject=str(step.pk))
        child = create_job(_submission(job, step), now=now, actor=proposer(job))
    except (AgentsError, ToolError) as error:
        fail(step, code=error.code, message=error.message, actor=ENGINE, now=now)
        advance(job, now=now)
        return None
    Step.objects.filter(pk=step.pk).update(started_at=now, spec={"child": str(child.pk)})
    feed.append(job.pk, [step_entry(step)], now=now)
    return child.pk


@transaction.atomic
def ended(child_id: UUID, *, now: datetime) -> bool:
    """Ends the step that waited for this job, which has ended. False: there is none, or it has ended before."""
    child = Job.objects.filter(pk=child_id, state__in=JOB_DONE, parent_step__isnull=False).first()
    if child is None or child.parent_id is None or child.parent_step_id is None:
        return False
    job = lock_job(child.parent_id)
    step = _waiting().filter(pk=child.parent_step_id, spec__child=str(child.pk)).first()
    if step is None:
        return False
    tokens = child.tokens_used - int((step.spec or {}).get("counted") or 0)  # where it was retried
    cost = child.cost_used - Decimal((step.spec or {}).get("counted_cost") or 0)
    Job.objects.filter(pk=job.pk).update(tokens_used=F("tokens_used") + tokens, cost_used=F("cost_used") + cost)
    job.tokens_used += tokens
    job.cost_used += cost
    data = {"job": str(child.pk), "state": str(child.state), "outputs": child.outputs, "tokens": child.tokens_used}
    result = Result(
        ok=child.state == JobState.SUCCEEDED, summary=child.outcome[:300], text=child.outcome[:100_000], data=data
    )
    if result.ok:
        move_step(
            step,
            StepState.SUCCEEDED,
            now=now,
            event=Event.STEP_CONFIRMED,
            context={"child": str(child.pk)},
            payload={"summary": result.summary},
            result=result_json(result),
        )
    else:
        message = f"Its job {child.state}: {child.outcome}"
        fail(step, code="child_failed", message=message, actor=ENGINE, now=now, result=result_json(result))
    advance(job, now=now)
    return True


def cancel_orphans(now: datetime) -> int:
    """Cancels unfinished children of jobs that have ended or are being cancelled; how many."""
    orphans = Job.objects.exclude(state__in=JOB_DONE).filter(cancel_requested=False, parent__isnull=False)
    over = orphans.filter(parent__cancel_requested=True) | orphans.filter(parent__state__in=JOB_DONE)
    found = list(over.values_list("pk", flat=True)[:BATCH])
    for child_id in found:
        cancel_job(child_id, by=ENGINE, now=now)
    return len(found)


def sweep(now: datetime) -> int:
    """Starts and ends what a lost message left behind."""
    done = Job.objects.filter(parent_step=OuterRef("pk"), state__in=JOB_DONE)
    unborn = _waiting().filter(spec__isnull=True).values_list("pk", flat=True)
    over = list(_waiting().filter(Exists(done), spec__isnull=False).values_list("spec__child", flat=True)[:BATCH])
    started = [start(step_id, now=now) for step_id in unborn.exclude(job__state=JobState.PAUSED)[:BATCH]]
    return len(started) + sum(ended(UUID(child_id), now=now) for child_id in over)


def _waiting() -> QuerySet[Step]:
    """Steps that were let through and wait for their child job."""
    return Step.objects.filter(kind=Step.Kind.JOB, state=StepState.PENDING, ready_at__isnull=False)


def _submission(job: Job, step: Step) -> NewJob:
    """The child job: its owner's, in its parent's workspace, with no more than its parent has left.

    Raises:
        CannotDelegate, and what compiling a workflow raises.
    """
    if job.depth + 1 > DEPTH_MAX:
        raise CannotDelegate(f"Jobs start jobs at most {DEPTH_MAX} levels deep.")
    arguments = step.arguments
    if step.tool == "job.workflow":
        new = for_child(job, arguments["workflow"], arguments.get("version"), arguments.get("inputs") or {})
    else:
        new = NewJob(owner=job.owner, kind=Job.Kind.GOAL, goal=arguments["goal"].strip(), agent=_agent(job, arguments))
    tokens, steps, cost = _left(job)
    return replace(
        new,
        repository=new.repository or (job.repository if step.tool == "job.delegate" else None),
        priority=job.priority,
        labels={**job.labels, **new.labels},
        parent=job,
        parent_step=step,
        team=job.team,
        depth=job.depth + 1,
        grant=grants.for_child(job, arguments.get("tools")),
        workspace_of=job.workspace_of or job.pk,
        max_tokens=min(int(arguments.get("max_tokens") or tokens), tokens),
        max_cost=cost,
        max_steps=min(int(arguments.get("max_steps") or steps), steps),
        deadline_at=job.deadline_at,
    )


def _agent(job: Job, arguments: Mapping[str, Any]) -> Agent:
    name = arguments.get("agent")
    if name is None:
        if job.agent is None:
            raise CannotDelegate("This job has no agent: name the one to hand the goal to.")
        return job.agent
    agent = Agent.objects.filter(name=name, enabled=True).first()
    if agent is None:
        raise CannotDelegate(f"There is no enabled agent {name!r}.")
    if not teams.may_have(job, agent):
        raise CannotDelegate(f"{name} is no member of this job's team.")
    return agent


def _left(job: Job) -> tuple[int, int, Decimal | None]:
    """Tokens, steps and US dollars (None: no bound) that the job may still hand on: what it has not used, less what its
    open children may use."""
    children = job.children.exclude(state__in=JOB_DONE).aggregate(
        tokens=Sum("max_tokens"), steps=Sum("max_steps"), cost=Sum("max_cost")
    )
    tokens = job.max_tokens - job.tokens_used - (children["tokens"] or 0)
    steps = job.max_steps - job.steps.count() - (children["steps"] or 0)
    cost = None if job.max_cost is None else job.max_cost - job.cost_used - (children["cost"] or Decimal(0))
    for name, left in (("tokens", tokens), ("steps", steps), ("money", cost)):
        if left is not None and left <= 0:
            raise CannotDelegate(f"Nothing is left of this job's {name} to hand on.")
    return tokens, steps, cost
