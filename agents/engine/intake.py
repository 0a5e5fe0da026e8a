"""A new job: its rows, its first steps and their audit records in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction

from agents import feed, profiles
from agents.engine import keys, origins
from agents.engine.advance import THINK, advance
from agents.engine.ending import PLAN
from agents.engine.hot import newcomers
from agents.engine.transitions import job_target, step_entry, step_facts, step_target
from agents.errors import InvalidPlan
from agents.models import Agent, Conversation, Job, Repository, Step, Team, Tenant, WorkflowVersion
from agents.states import JobState
from agents.tenants import make_room, tenant_for
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event
from tools import registry
from tools.spec import Risk

MAX_ATTEMPTS = int(Step._meta.get_field("max_attempts").default)
MAX_REPLANS = 3
PREPARE = "prepare"  # the step that clones the repository into the job's workspace
SUMMARY = "summary"  # the step that puts the older part of a conversation into a few words
DEFAULT_MAX_STEPS, DEFAULT_MAX_TOKENS = 200, 400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStep:
    """A proposed step. `needs` are keys of others; `needs_success` False: it is enough that they have ended.

    Of a workflow's step: template, the arguments where they hold `${{ CEL }}` (then `arguments` is empty until the step
    is released); condition, spec, retry, timeout_s, fallbacks and compensation as the columns of `Step` say.
    """

    key: str
    tool: str
    arguments: dict[str, Any]
    needs: Sequence[str] = ()
    reason: str = ""
    needs_success: bool = True
    tool_call_id: str = ""
    opinion: dict[str, Any] | None = None
    kind: str = Step.Kind.CALL
    template: Any = None
    condition: str = ""
    spec: dict[str, Any] | None = None
    retry: dict[str, Any] | None = None
    timeout_s: int | None = None
    fallbacks: Sequence[dict[str, Any]] = ()
    compensation: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A validated submission. For kind `goal` the agent plans; for kind `plan` the steps are given; for kind `chat` they
    are what the server does beside the agent's first turn, which waits for the one with the key `SUMMARY`."""

    owner: User
    kind: str
    goal: str
    agent: Agent | None = None
    repository: Repository | None = None
    priority: int = 5
    labels: dict[str, str] = field(default_factory=dict)
    steps: Sequence[NewStep] = ()
    idempotency_key: str = ""
    request_sha256: str = ""
    trigger: str = ""
    took_part: dict[str, str] = field(default_factory=dict)  # who else had a part in it: {user (primary key): part}
    workflow_version: WorkflowVersion | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    tenant: Tenant | None = None  # by default the parent's, or the owner's
    concurrency_key: str = ""
    on_conflict: str = keys.QUEUE  # where another job has the key
    deadline_s: int | None = None  # from when it may begin
    delay_s: int | None = None
    starts_at: datetime | None = None
    conversation: Conversation | None = None  # that it is a turn of, or was started from
    # of a job that another one starts (`agents.engine.children`)
    parent: Job | None = None
    parent_step: Step | None = None
    depth: int = 0
    grant: Sequence[Sequence[str]] = ()
    workspace_of: UUID | None = None
    deadline_at: datetime | None = None
    max_steps: int | None = None
    max_tokens: int | None = None
    max_cost: Decimal | None = None  # US dollars
    planning: str = ""  # loop, plan or review: of a goal; its agent's own where empty
    max_replans: int | None = None
    team: Team | None = None


@transaction.atomic
def create_job(new: NewJob, *, now: datetime, actor: Actor) -> Job:
    """Writes the job and its first steps, decides on what is ready, and publishes after commit.

    Raises:
        InvalidPlan: a step has the reserved key `prepare`.
        QueueFull: too many jobs are unfinished; nothing is written.
        KeyBusy: another job has its concurrency key, and `on_conflict` is `reject`.
    """
    tenant = new.tenant or (new.parent and new.parent.tenant) or tenant_for(new.owner)
    make_room(tenant, new.owner)
    job = Job(
        tenant=tenant,
        kind=new.kind,
        goal=new.goal,
        agent=new.agent,
        agent_version=profiles.version_of(new.agent, now=now) if new.agent else None,
        team=new.team,
        repository=new.repository,
        owner=new.owner,
        priority=new.priority,
        labels={**new.labels, **(new.agent.labels if new.agent else {})},
        state=JobState.QUEUED,
        idempotency_key=new.idempotency_key,
        request_sha256=new.request_sha256,
        trigger=new.trigger,
        took_part=new.took_part,
        workflow_version=new.workflow_version,
        inputs=new.inputs,
        concurrency_key=keys.own_key(new.concurrency_key, new.parent),
        starts_at=_starts_at(new, now),
        deadline_at=_deadline(new, now),
        max_steps=_least(
            max(new.agent.max_steps if new.agent else DEFAULT_MAX_STEPS, len(new.steps) + 1), new.max_steps
        ),
        max_tokens=_least(new.agent.max_tokens if new.agent else DEFAULT_MAX_TOKENS, new.max_tokens),
        max_cost=_least_cost(new.agent.max_cost if new.agent else None, new.max_cost),
        parent=new.parent,
        parent_step=new.parent_step,
        depth=new.depth,
        grant=[list(patterns) for patterns in new.grant],
        workspace_of=new.workspace_of,
        conversation=new.conversation,
        created_at=now,
    )
    context, payload = _submitted(job, tenant)
    rows = _rows(job, _first_steps(new), first=1, now=now)
    said = newcomers.Said(job=(context, payload), steps=[_proposed(row) for row in rows])
    if newcomers.create(job, rows, said, actor=actor, now=now):
        return job
    job.save(force_insert=True)
    job = Job.objects.select_for_update(of=("self",)).select_related("agent", "repository", "owner").get(pk=job.pk)
    record(Event.JOB_SUBMITTED, actor=actor, target=job_target(job), context=context, payload=payload)
    feed.append(job.pk, [feed.Entry(kind="job", data={"state": str(job.state)})], now=now)
    _add(job, rows, actor=actor, now=now)
    if job.concurrency_key:
        keys.enter(job, reject=new.on_conflict == keys.REJECT)
    advance(job, now=now)
    return job


def add_steps(
    job: Job, steps: Sequence[NewStep], *, now: datetime, actor: Actor, proposed_by: Step | None = None
) -> list[Step]:
    """Appends pending steps to a locked job, each with its `step.proposed` record."""
    seq = Step.objects.filter(job=job).count()
    rows = _rows(job, steps, first=seq + 1, now=now, proposed_by=proposed_by)
    _add(job, rows, actor=actor, now=now)
    return rows


def unsaved(job: Job, new: NewStep, arguments: dict[str, Any]) -> Step:
    """The step that `new` would be with these arguments, for whoever asks what would become of it."""
    return _rows(job, [replace(new, arguments=arguments, template=None)], first=0, now=job.created_at)[0]


def _add(job: Job, rows: list[Step], *, actor: Actor, now: datetime) -> None:
    Step.objects.bulk_create(rows)
    for row in rows:
        context, payload = _proposed(row)
        record(Event.STEP_PROPOSED, actor=actor, target=step_target(row), context=context, payload=payload)
    feed.append(job.pk, [step_entry(row) for row in rows], now=now)


def _rows(
    job: Job, steps: Sequence[NewStep], *, first: int, now: datetime, proposed_by: Step | None = None
) -> list[Step]:
    """Unsaved."""
    rows = []
    for number, new in enumerate(steps, start=first):
        tool = registry.get(new.tool)
        rows.append(
            Step(
                job=job,
                seq=number,
                key=new.key,
                tool=new.tool,
                schema_version=tool.schema_version,
                arguments=new.arguments,
                needs=list(new.needs),
                needs_success=new.needs_success,
                reason=new.reason,
                opinion=new.opinion,
                tool_call_id=new.tool_call_id,
                kind=Step.Kind.JOB if tool.starts_job else new.kind,
                workspace_of=job.workspace_of,
                template=new.template,
                condition=new.condition,
                spec=new.spec,
                retry=new.retry,
                max_attempts=int((new.retry or {}).get("max_attempts") or MAX_ATTEMPTS),
                timeout_s=new.timeout_s,
                fallbacks=list(new.fallbacks),
                compensation=new.compensation,
                proposed_by=proposed_by,
                effect=str(tool.effect_of(new.template or new.arguments)),
                queue=tool.queue,
                risk=str(tool.risk(new.arguments).level if _complete(new) else Risk.LOW),
                created_at=now,
            )
        )
    return rows


def _submitted(job: Job, tenant: Tenant) -> tuple[dict[str, Any], dict[str, Any]]:
    """Context and payload of `job.submitted`."""
    context = {
        "kind": job.kind,
        "agent": job.agent.name if job.agent else "",
        **({"agent_version": job.agent_version.number} if job.agent_version else {}),
        "repository": job.repository.name if job.repository else "",
        "priority": job.priority,
        "tenant": tenant.name,
        **({"key": job.concurrency_key} if job.concurrency_key else {}),
        **({"trigger": job.trigger} if job.trigger else {}),
        **({"conversation": str(job.conversation_id)} if job.conversation_id else {}),
        **({"workflow": str(job.workflow_version)} if job.workflow_version else {}),
        **({"parent": str(job.parent_id), "grant": job.grant} if job.parent_id else {}),
    }
    return context, {"goal": job.goal, "labels": job.labels, **({"inputs": job.inputs} if job.inputs else {})}


def _proposed(step: Step) -> tuple[dict[str, Any], dict[str, Any]]:
    """Context and payload of `step.proposed`."""
    payload = {
        "arguments": step.arguments,
        "reason": step.reason,
        **({"template": step.template} if step.template is not None else {}),
    }
    return step_facts(step, queue=step.queue, effect=step.effect), payload


def _first_steps(new: NewJob) -> list[NewStep]:
    steps: list[NewStep] = []
    if new.repository is not None and new.workspace_of is None:
        arguments = origins.clone_arguments(new.repository, new.owner)
        steps.append(NewStep(key=PREPARE, tool="workspace.prepare", arguments=arguments))
    first = [step.key for step in steps]
    if new.kind in {Job.Kind.GOAL, Job.Kind.CHAT}:
        waits = [*first, *(step.key for step in new.steps if step.key == SUMMARY)]
        planning = new.planning or (new.agent.planning if new.agent else Agent.Planning.LOOP)
        if new.kind == Job.Kind.GOAL and planning != Agent.Planning.LOOP:
            most = MAX_REPLANS if new.max_replans is None else new.max_replans
            given = {"round": 1, "review": planning == Agent.Planning.REVIEW, "max_replans": most}
            return [*steps, NewStep(key="plan-1", tool=PLAN, arguments=given, needs=first)]
        think = NewStep(key="think-1", tool=THINK, arguments={"turn": 1}, needs=waits, needs_success=waits == first)
        return [*steps, *new.steps, think]
    for number, step in enumerate(new.steps):
        if step.key == PREPARE:
            raise InvalidPlan(f"The key {PREPARE!r} is reserved.", field=f"steps[{number}].key")
        steps.append(replace(step, needs=list(step.needs) or first))
    return steps


def _deadline(new: NewJob, now: datetime) -> datetime | None:
    """The earlier of the two, where there are two."""
    begins = max(now, _starts_at(new, now) or now)
    own = begins + timedelta(seconds=new.deadline_s) if new.deadline_s else None
    return min((one for one in (own, new.deadline_at) if one is not None), default=None)


def _starts_at(new: NewJob, now: datetime) -> datetime | None:
    return now + timedelta(seconds=new.delay_s) if new.delay_s else new.starts_at


def _least_cost(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return min((cost for cost in (one, other) if cost is not None), default=None)


def _least(usual: int, given: int | None) -> int:
    return usual if given is None else min(usual, given)


def _complete(new: NewStep) -> bool:
    """Are the arguments those of one call? What waits for its values is scored when it has them."""
    return new.kind == Step.Kind.CALL and new.template is None
