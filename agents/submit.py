"""A submission, from whoever it comes (API, form, command line), becomes a job or is refused as a whole."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from agents import choosing
from agents.engine import expressions, keys
from agents.engine.expressions import InvalidExpression, templated
from agents.engine.intake import PREPARE, NewJob, NewStep, create_job
from agents.errors import InvalidInput, InvalidPlan, UnknownAgent
from agents.models import Agent, Conversation, Job, Repository, Team
from agents.once import once
from agents.payload import MAX_ARGUMENTS_BYTES, JobInput, OtherCall, StepInput, parse
from agents.selectors import agent_named, repository_named
from agents.tenants import tenant_for
from agents.workflows.compile import find as find_workflow
from agents.workflows.compile import new_job as workflow_job
from audit.actor import Actor
from audit.canonical import canonical_json
from tools import registry
from tools.errors import InvalidArguments, ToolError, UnknownTool

DEFAULT_AGENT = "developer"
DEFAULT_PRIORITY = 5


def submit(
    payload: Mapping[str, Any],
    *,
    user: User,
    idempotency_key: str = "",
    trigger: str = "",
    took_part: Mapping[str, str] | None = None,
    conversation: Conversation | None = None,
    now: datetime,
) -> tuple[Job, bool]:
    """Creates the job that `payload` describes (see `agents.payload.JobInput`); False: it was created before.

    With an idempotency key (1 to 200 visible ASCII characters, private to the user) the same payload gives the same
    job, also where two submissions race.

    trigger: what started it where no person did, such as `schedule:nightly`; took_part: {user (primary key): part} of
    who else had a part in it, such as the maker of the token by which it came; conversation: where it was started.

    Raises:
        InvalidInput (InvalidPlan, UnknownAgent, UnknownRepository): with every wrong field; nothing is written.
        IdempotencyConflict: the key was used with another payload.
        QueueFull
        KeyBusy: another job has its concurrency key, and it is not to wait.
    """
    digest = request_sha256({"chat": str(conversation.pk), "job": payload} if conversation else payload)

    def make() -> Job:
        new = new_job(payload, user=user, idempotency_key=idempotency_key, digest=digest)
        new = replace(new, trigger=trigger, took_part=dict(took_part or {}), conversation=conversation)
        return create_job(new, now=now, actor=Actor.user(user.pk))

    job, is_new = once(make, user=user, key=idempotency_key, digest=digest)
    if is_new and payload.get("on_conflict") == keys.CANCEL_RUNNING:
        keys.cancel_previous(job, by=user, now=now)
        job.refresh_from_db()
    return job, is_new


def new_job(payload: Mapping[str, Any], *, user: User, idempotency_key: str = "", digest: str = "") -> NewJob:
    """The checked submission; writes nothing. Raises as `submit` does, but for the key and the queue."""
    given = parse(JobInput, payload)
    _one_of(given)
    new = _job(given, user, idempotency_key, digest)
    return replace(
        new,
        tenant=tenant_for(user, given.tenant),
        concurrency_key=given.concurrency_key or new.concurrency_key,
        on_conflict=given.on_conflict,
        max_tokens=given.max_tokens,
        max_cost=Decimal(str(given.max_cost)) if given.max_cost is not None else None,
    )


def _job(given: JobInput, user: User, idempotency_key: str, digest: str) -> NewJob:
    if given.workflow is not None:
        compiled = _workflow_job(given, given.workflow, user, idempotency_key, digest)
        own = given.deadline_s or compiled.deadline_s
        return replace(compiled, deadline_s=own, delay_s=given.delay_s, starts_at=_starts_at(given))
    kind = Job.Kind.PLAN if given.steps is not None else Job.Kind.GOAL
    return NewJob(
        owner=user,
        kind=kind,
        goal=_goal(given),
        agent=_agent(given),
        team=_team(given),
        planning=given.planning or "",
        max_replans=given.max_replans,
        repository=_repository(given, user),
        priority=DEFAULT_PRIORITY if given.priority is None else given.priority,
        labels=dict(given.labels),
        steps=plan(given.steps or ()),
        deadline_s=given.deadline_s,
        delay_s=given.delay_s,
        starts_at=_starts_at(given),
        idempotency_key=idempotency_key,
        request_sha256=digest,
    )


def _workflow_job(given: JobInput, name: str, user: User, idempotency_key: str, digest: str) -> NewJob:
    return workflow_job(
        find_workflow(name, given.version),
        given.inputs or {},
        owner=user,
        repository=_repository(given, user),
        agent=_agent(given) if given.agent is not None else None,
        priority=given.priority,
        labels=given.labels,
        title=(given.title or "").strip(),
        idempotency_key=idempotency_key,
        request_sha256=digest,
    )


_FIRST_YEAR, _LAST_YEAR = 1970, 2999


def _starts_at(given: JobInput) -> datetime | None:
    if given.starts_at is None:
        return None
    if given.delay_s is not None:
        raise InvalidInput("Give delay_s or starts_at, not both.", field="starts_at")
    try:
        found = datetime.fromisoformat(given.starts_at)
    except ValueError:
        raise InvalidInput("Must be a time such as 2030-01-31T09:00:00Z.", field="starts_at") from None
    if found.utcoffset() is None:
        raise InvalidInput("Must say its offset from UTC, such as Z or +02:00.", field="starts_at")
    if not _FIRST_YEAR <= found.year <= _LAST_YEAR:  # no sum with a deadline or an offset may leave the calendar
        raise InvalidInput(f"Must lie in the years {_FIRST_YEAR} to {_LAST_YEAR}.", field="starts_at")
    return found.astimezone(UTC)


def request_sha256(payload: object) -> str:
    """SHA-256, hex, of the payload, whatever the order of its fields."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def plan(steps: Sequence[StepInput], *, ended: Collection[str] = ()) -> list[NewStep]:
    """Checks the steps of a plan against each other and against the tools. ended: keys of steps that came before it.

    Raises:
        InvalidPlan: with every problem (doubled key, unknown tool, arguments, unknown need, the cycle).
    """
    problems: list[tuple[str, str]] = []
    keys = [step.key for step in steps]
    known: set[str] = set()
    every = {*keys, *ended}
    for index, step in enumerate(steps):
        here = f"steps[{index}]"
        if step.key in known:
            problems.append((f"{here}.key", f"The key {step.key!r} is used twice."))
        known.add(step.key)
        problems += _call_problems(step, here)
        problems += _rule_problems(step, here, every)
        for position, need in enumerate(step.needs):
            if need not in every:
                problems.append((f"{here}.needs[{position}]", f"There is no step {need!r} in this plan."))
    if not problems:
        cycle = find_cycle({step.key: [one for one in step.needs if one in known] for step in steps})
        if cycle:
            problems.append(
                (f"steps[{keys.index(cycle[0])}].needs", f"The steps wait in a circle: {' → '.join(cycle)}.")
            )
    if problems:
        raise InvalidPlan(f"{problems[0][0]}: {problems[0][1]}", problems=problems)
    return [
        NewStep(
            key=step.key,
            tool=step.tool,
            arguments={} if templated(step.arguments) else step.arguments,
            template=step.arguments if templated(step.arguments) else None,
            needs=tuple(dict.fromkeys(step.needs)),
            needs_success=step.needs_success,
            reason=step.reason,
            condition=step.when,
            retry=step.retry.model_dump() if step.retry else None,
            timeout_s=step.timeout_s,
            fallbacks=[one.model_dump(exclude_none=True) for one in step.fallbacks],
            compensation=step.compensation.model_dump() if step.compensation else None,
        )
        for step in steps
    ]


def find_cycle(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """One cycle as its keys in order, the first again at the end; empty where there is none."""
    done: set[str] = set()
    for root in needs:
        path: list[str] = []
        stack: list[tuple[str, list[str]]] = [(root, list(needs[root]))] if root not in done else []
        while stack:
            key, rest = stack[-1]
            if not path or path[-1] != key:
                path.append(key)
            if not rest:
                stack.pop()
                path.pop()
                done.add(key)
                continue
            after = rest.pop()
            if after in path:
                return [*path[path.index(after) :], after]
            if after not in done:
                stack.append((after, list(needs[after])))
    return []


def _rule_problems(step: StepInput, here: str, keys: set[str]) -> list[tuple[str, str]]:
    """What is wrong with expressions, alternatives and what undoes the step."""
    problems: list[tuple[str, str]] = []
    others: list[tuple[OtherCall, str]] = [
        (one, f"{here}.fallbacks[{place}]") for place, one in enumerate(step.fallbacks)
    ]
    if step.compensation is not None:
        others.append((step.compensation, f"{here}.compensation"))
    for one, where in others:
        problems += _call_problems(one, where)
        if one.tool in _job_tools():
            problems.append((f"{where}.tool", f"{one.tool} starts a job, which cannot stand in for a call."))
    texts = [(step.arguments, f"{here}.arguments"), *((one.arguments, f"{where}.arguments") for one, where in others)]
    try:
        named = expressions.check(step.when) if step.when.strip() else frozenset()
        problems += _unknown(named, keys, f"{here}.when")
    except InvalidExpression as error:
        problems.append((f"{here}.when", error.message))
    for value, where in texts:
        try:
            problems += _unknown(expressions.check_template(value, path=where), keys, where)
        except InvalidExpression as error:
            problems.append((error.field, error.message))
    return problems


def _unknown(named: Iterable[str], keys: set[str], where: str) -> list[tuple[str, str]]:
    return [(where, f"There is no step {key!r} in this plan.") for key in sorted(named) if key not in {*keys, PREPARE}]


def _job_tools() -> set[str]:
    return {tool.name for tool in registry.every() if tool.starts_job}


def _call_problems(step: StepInput | OtherCall, here: str) -> list[tuple[str, str]]:
    try:
        tool = registry.get(step.tool)
    except UnknownTool as error:
        return [(f"{here}.tool", error.message)]
    if not tool.offered:
        return [(f"{here}.tool", f"{step.tool} is the engine's own tool: a plan cannot name it.")]
    if len(canonical_json(step.arguments)) > MAX_ARGUMENTS_BYTES:
        return [(f"{here}.arguments", f"Must be at most {MAX_ARGUMENTS_BYTES // 1024} KiB.")]
    if templated(step.arguments):
        return []  # the schema is asked when they are known
    try:
        registry.validate(tool, step.arguments)
    except InvalidArguments as error:
        return [(f"{here}.{error.field}", _bounded(error.message))]
    except ToolError as error:
        return [(f"{here}.arguments", _bounded(error.message))]
    return []


def _bounded(message: str) -> str:
    """A schema's message quotes the value that it refuses."""
    return message if len(message) <= 300 else f"{message[:297]}…"


def _one_of(given: JobInput) -> None:
    named = [name for name in ("goal", "steps", "workflow") if getattr(given, name) is not None]
    if not named:
        raise InvalidInput("Give a goal or steps, or name a workflow.", field="goal")
    if len(named) > 1:
        raise InvalidInput(f"Give {named[0]} or {named[1]}, not both.", field=named[1])
    if given.goal is not None and not given.goal.strip():
        raise InvalidInput("Must not be empty.", field="goal")
    if given.goal is not None and given.title is not None:
        raise InvalidInput("Only a plan and a workflow's job have a title.", field="title")
    for name in ("planning", "max_replans", "team"):
        if given.goal is None and getattr(given, name) is not None:
            raise InvalidInput(f"Only a goal has {name}.", field=name)
    asked = [name for name in ("agent", "capabilities", "team") if getattr(given, name)]
    if len(asked) > 1:
        raise InvalidInput(f"Give {asked[0]} or {asked[1]}, not both.", field=asked[1])
    if given.capabilities and given.goal is None:
        raise InvalidInput("Only a goal's agent is chosen by what it is good for.", field="capabilities")
    for name in ("version", "inputs"):
        if given.workflow is None and getattr(given, name) is not None:
            raise InvalidInput(f"Only a workflow has {name}.", field=name)


def _goal(given: JobInput) -> str:
    if given.goal is not None:
        return given.goal.strip()
    count = len(given.steps or ())
    return (given.title or "").strip() or f"Plan of {count} step{'s' if count != 1 else ''}"


def _agent(given: JobInput) -> Agent | None:
    if given.agent is None and given.steps is not None:
        return None
    team = _team(given)
    if team is not None:
        return team.lead
    if given.capabilities:
        return _chosen(given)
    return agent_named(DEFAULT_AGENT if given.agent is None else given.agent)


def _team(given: JobInput) -> Team | None:
    if given.team is None:
        return None
    team = Team.objects.select_related("lead__route").filter(name=given.team, enabled=True, lead__enabled=True).first()
    if team is None:
        raise UnknownAgent(f"There is no enabled team {given.team!r}.", field="team")
    return team


def _chosen(given: JobInput) -> Agent:
    """The agent with the best record of those that are good for it."""
    ranked = choosing.rank(given.capabilities, now=timezone.now())
    if not ranked:
        wanted = ", ".join(given.capabilities)
        raise UnknownAgent(f"No enabled agent is good for {wanted}.", field="capabilities")
    return ranked[0].agent


def _repository(given: JobInput, user: User) -> Repository | None:
    return repository_named(given.repository, user) if given.repository is not None else None
