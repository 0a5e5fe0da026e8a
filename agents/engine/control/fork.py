"""A new job that begins in the middle of another: with the steps before one step as they ended there.

What stood before is copied with its results and not run again; the step itself and what comes after it are decided
anew, for whoever forks. The new job's workspace holds what the other's held when the step began (`tools.snapshots`).
Where that was not kept it is a copy of the other's as it is now, and the fork is refused where something may have
written there since.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction

from agents import feed
from agents.engine import keys
from agents.engine.advance import THINK, advance
from agents.engine.control import moment
from agents.engine.control.edit import checked
from agents.engine.control.moment import COPIED, writes
from agents.engine.ending import PLAN
from agents.engine.intake import PREPARE
from agents.engine.transitions import job_target, lock_job, step_entry, step_facts, step_target
from agents.errors import InvalidInput, NotNow
from agents.models import Attempt, Job, Step
from agents.selectors import visible_repositories
from agents.states import STEP_DONE, JobState, StepState
from agents.tenants import make_room, tenant_for
from audit.actor import Actor
from audit.append import record
from audit.ids import uuid7
from audit.kinds import Event
from tools import snapshots, workspaces

_SAME = (
    "kind", "seq", "key", "tool", "schema_version", "arguments", "needs", "needs_success", "template", "condition",
    "retry", "timeout_s", "fallbacks", "compensation", "reason", "tool_call_id", "effect", "queue", "risk",
)  # fmt: skip
_ENDED = (
    "state", "result", "error_class", "error_code", "error", "tokens", "spec", "ready_at", "started_at", "finished_at",
    "fallback_used",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """kept: ended steps before the one to begin with; ahead: that one and what else is to run; steps: all of them."""

    at: Step
    kept: Sequence[Step]
    ahead: Sequence[Step]
    steps: Sequence[Step]


def fork_job(job_id: UUID, *, at: str, by: User, now: datetime, arguments: Mapping[str, Any] | None = None) -> Job:
    """Gives the new job, which is `by`'s. arguments: other ones for the step `at`.

    Raises:
        Job.DoesNotExist
        InvalidInput: there is no step `at`, or its tool does not take the arguments.
        NotNow: the workspace as it was then cannot be had any more, or the job is another's part.
        QueueFull
    """
    job = Job.objects.select_related("agent", "repository", "owner").get(pk=job_id)
    if job.kind == Job.Kind.CHAT:
        raise NotNow("This is a turn of a conversation: ask again there.")
    cut = _cut(job, at, arguments)
    if job.repository is not None and not visible_repositories(by).filter(pk=job.repository.pk).exists():
        raise NotNow(f"The repository {job.repository.name} is not yours to use.")
    source, new_id = str(job.workspace_of or job.pk), uuid7()
    cut, number, copies = _place(source, job, cut)
    try:
        if number:
            snapshots.fork(source, number, str(new_id))
        elif copies:
            workspaces.copy(source, str(new_id))
        elif any(writes(step) for step in cut.kept):
            workspaces.workspace_for(str(new_id))  # there, and known to be empty
        return _write(job, new_id, cut, arguments, by=by, now=now)
    except snapshots.NoSnapshot as error:
        raise NotNow(f"The workspace as it was before {at} cannot be had: {error}.") from None
    except BaseException:
        workspaces.remove(str(new_id))
        raise


def _cut(job: Job, at: str, arguments: Mapping[str, Any] | None) -> Cut:
    steps = list(Step.objects.filter(job=job, parent__isnull=True, compensates__isnull=True).order_by("seq"))
    chosen = next((step for step in steps if step.key == at), None)
    if chosen is None:
        raise InvalidInput(f"The job has no step {at!r} to begin with.", field="step")
    if any(step.state == StepState.COMPENSATED for step in steps):
        raise NotNow("What the job did was undone: its steps have no results to begin with.")
    if chosen.tool != PLAN and chosen.key != PREPARE and any(step.tool == PLAN for step in steps):
        last = next(step.key for step in reversed(steps) if step.tool == PLAN and step.seq < max(chosen.seq, 2))
        raise NotNow(f"This job runs by a plan: fork it where one is made, such as {last}.")
    if arguments is not None:
        if chosen.kind != Step.Kind.CALL or chosen.tool in (THINK, PLAN):
            raise InvalidInput("Only a plain call takes other arguments.", field="arguments")
        checked(chosen.tool, arguments)
    # An agent has read what failed before, and goes on from there; in a plan it would only be in the way.
    stays = STEP_DONE if job.kind == Job.Kind.GOAL else frozenset({StepState.SUCCEEDED})
    return _parted(steps, chosen, {step.pk for step in steps if step.seq < chosen.seq and step.state in stays})


def _parted(steps: Sequence[Step], at: Step, ids: Collection[UUID]) -> Cut:
    # what a later turn of the agent asked for is not known yet
    ahead = [
        step for step in steps if step.pk not in ids and (step.proposed_by_id is None or step.proposed_by_id in ids)
    ]
    return Cut(at=at, kept=[step for step in steps if step.pk in ids], ahead=ahead, steps=steps)


def _place(source: str, job: Job, cut: Cut) -> tuple[Cut, int, bool]:
    """What is kept, the snapshot to begin with (0 for none), and whether the workspace is copied as it is."""
    history = snapshots.history(source)
    found = None
    if history is not None:
        found = moment.find(job, cut.steps, cut.at, {step.pk for step in cut.kept}, history)
    if found is not None and not found.missing:
        return _parted(cut.steps, cut.at, found.kept), found.number, False
    if job.parent_id is not None and (history is not None or workspaces.holds(source)):
        raise NotNow("What this job began with was not kept. Fork the job that started it.")
    if found is not None and history is not None and found.number == history.latest and not history.busy:
        return _parted(cut.steps, cut.at, found.kept), 0, True  # nothing has written since
    return cut, 0, _check_workspace(source, job, cut, found.missing if found else "")


def _check_workspace(source: str, job: Job, cut: Cut, why: str) -> bool:
    """True: the workspace is to be copied. Raises NotNow where it is not what it was.

    why: there is no snapshot of it.
    """
    ids = {step.pk for step in cut.kept}
    others = Step.objects.filter(job=job, compensates__isnull=True).exclude(pk__in=ids).exclude(parent__in=ids)
    tried = set(Attempt.objects.filter(step__job=job).values_list("step_id", flat=True))
    begun = [step for step in others.order_by("seq") if step.started_at is not None or step.pk in tried]
    since = [step.key for step in begun if writes(step)]
    before = [step for step in cut.kept if step.started_at is not None and writes(step)]
    holds = workspaces.holds(source)
    if holds is None:
        if before:
            raise NotNow("The job's workspace was removed: the fork would begin without what its steps had made there.")
        return False
    if since and holds:
        kept = f"The workspace as it was before {cut.at.key} was not kept: {why}." if why else ""
        raise NotNow(
            f"{kept or f'The workspace is not what it was before {cut.at.key}:'} {', '.join(since[:10])} may have "
            "changed it since. Fork at a step after these, or retry the job."
        )
    return holds


@transaction.atomic
def _write(job: Job, new_id: UUID, cut: Cut, arguments: Mapping[str, Any] | None, *, by: User, now: datetime) -> Job:
    locked = lock_job(job.pk)
    if locked.feed_seq != job.feed_seq:
        raise NotNow("The job has just gone on: look at it again.")
    tenant = job.tenant if job.tenant is not None and job.owner_id == by.pk else tenant_for(by)
    make_room(tenant, by)
    actor = Actor.user(by.pk)
    Job.objects.create(
        id=new_id,
        kind=job.kind,
        goal=job.goal,
        agent=job.agent,
        agent_version=job.agent_version,
        team=job.team,
        repository=job.repository,
        owner=by,
        tenant=tenant,
        priority=job.priority,
        labels=job.labels,
        state=JobState.QUEUED,
        workflow_version_id=job.workflow_version_id,
        inputs=job.inputs,
        grant=job.grant,
        forked_from=job,
        concurrency_key=job.concurrency_key,
        deadline_at=now + (job.deadline_at - job.created_at) if job.deadline_at else None,
        max_steps=job.max_steps,
        max_tokens=job.max_tokens,
        max_cost=job.max_cost,
        tokens_used=sum(step.tokens for step in cut.kept),
        created_at=now,
    )
    fork = lock_job(new_id)
    copied = {step.key: str(step.pk) for step in cut.kept}
    record(
        Event.JOB_FORKED,
        actor=actor,
        target=job_target(fork),
        context={"from": str(job.pk), "step": cut.at.key, "step_id": str(cut.at.pk), "copied": len(copied)},
        payload={"goal": job.goal, "copied": copied, **({} if arguments is None else {"arguments": dict(arguments)})},
    )
    feed.append(fork.pk, [feed.Entry(kind="job", data={"state": str(fork.state)})], now=now)
    rows = _rows(fork, cut, arguments, now=now)
    for row in rows:
        if row.state == StepState.PENDING:
            record(
                Event.STEP_PROPOSED,
                actor=actor,
                target=step_target(row),
                context=step_facts(row, queue=row.queue, effect=row.effect),
                payload={"arguments": row.arguments, "reason": row.reason},
            )
    feed.append(fork.pk, [step_entry(row) for row in rows], now=now)
    if fork.concurrency_key:
        keys.enter(fork, reject=False)
    advance(fork, now=now)
    return fork


def _rows(fork: Job, cut: Cut, arguments: Mapping[str, Any] | None, *, now: datetime) -> list[Step]:
    """The new job's steps: copies that have ended, and pending ones."""
    kept = {step.pk for step in cut.kept}
    made: dict[UUID, Step] = {}
    for step in sorted([*cut.kept, *cut.ahead], key=lambda one: one.seq):
        new = Step(job=fork, created_at=now, **{name: getattr(step, name) for name in _SAME})
        if step.proposed_by_id is not None:
            new.proposed_by = made[step.proposed_by_id]
        if step.pk in kept:
            for name in _ENDED:
                setattr(new, name, getattr(step, name))
            new.compensation = None  # what the other job did is not this one's to undo
            reason = f"Copied with its result from the step {step.key} ({step.pk}) of job {step.job_id}."
            new.decision = {"effect": COPIED, "policy": "", "rule": "", "reason": reason}
        else:
            _pending(new, step)
            if step.pk == cut.at.pk and arguments is not None:
                new.arguments, new.template = dict(arguments), None
        made[step.pk] = new
    rows = list(made.values())
    for number, row in enumerate(rows, start=1):
        row.seq = number
    Step.objects.bulk_create(rows)
    return rows


def _pending(new: Step, step: Step) -> None:
    new.state = StepState.PENDING
    new.max_attempts = int((step.retry or {}).get("max_attempts") or Step._meta.get_field("max_attempts").default)
    if step.kind == Step.Kind.MAP and step.spec is not None:
        new.spec = {name: value for name, value in step.spec.items() if name not in {"items", "chunks"}}
