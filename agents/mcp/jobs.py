"""The server's own MCP tools: submit a job, watch it, see what waits for people."""

from collections.abc import Callable
from typing import Annotated, Any, Literal
from uuid import UUID

from django.utils import timezone
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError as Refusal
from mcp_types import ToolAnnotations
from pydantic import Field

from agents.engine.cancel import cancel_job as cancel
from agents.errors import AlreadyDone
from agents.mcp import shapes, waiting
from agents.mcp.caller import Caller, Scope, call, caller
from agents.models import Job
from agents.payload import StepInput
from agents.selectors import (
    changeable_job,
    of_kinds,
    usable_agents,
    visible_job,
    visible_jobs,
    visible_repositories,
    visible_step,
)
from agents.states import JOB_DONE, JobState
from agents.submit import submit
from agents.tokens import makers_of
from approvals import selectors as asked
from approvals.models import ApprovalRequest
from audit.actor import Actor

JobId = Annotated[str, Field(description="The job's id, as submit_job gave it.", max_length=40)]
Wait = Annotated[
    float, Field(ge=0, le=waiting.LONGEST_S, description="Seconds to wait for its end, or until it waits for people.")
]
LISTED = 50


async def submit_job(
    ctx: Context[Any, Any],
    goal: Annotated[str | None, Field(description="What to reach, in words: an agent plans and does it.")] = None,
    steps: Annotated[list[StepInput] | None, Field(description="A plan that runs as given, instead of a goal.")] = None,
    workflow: Annotated[str | None, Field(description="A workflow by name, instead: `ship`, or `ship@3`.")] = None,
    inputs: Annotated[dict[str, Any] | None, Field(description="Of the workflow.")] = None,
    title: Annotated[str | None, Field(description="Names a plan or a workflow's job in lists.")] = None,
    agent: Annotated[str | None, Field(description="By name; a goal's default is `developer`.")] = None,
    repository: Annotated[str | None, Field(description="By name: it is cloned into the job's workspace.")] = None,
    labels: Annotated[dict[str, str] | None, Field(description="Short names and values, to find it by.")] = None,
    priority: Annotated[int | None, Field(ge=0, le=9, description="0 (first) to 9 (last).")] = None,
    deadline_s: Annotated[int | None, Field(ge=1, description="Wall clock of the whole job, seconds.")] = None,
    max_tokens: Annotated[int | None, Field(ge=1, description="Of models, at most.")] = None,
    max_cost: Annotated[float | None, Field(gt=0, description="US dollars for models, at most.")] = None,
    tenant: Annotated[str | None, Field(description="Yours, by name; needed by who has several.")] = None,
    idempotency_key: Annotated[
        str | None, Field(max_length=200, description="The same key with the same job gives the same job again.")
    ] = None,
    wait_s: Wait = 0,
) -> dict[str, Any]:
    """Submits a job: a goal for an agent, steps that run as given, or a workflow. Each step is decided on by policy;
    what needs a person's approval waits for it. Returns the job, with its id and page."""
    who = caller(Scope.JOBS_WRITE)
    given = {
        "goal": goal,
        "steps": None if steps is None else [one.model_dump(mode="json", exclude_unset=True) for one in steps],
        "workflow": workflow,
        "inputs": inputs,
        "title": title,
        "agent": agent,
        "repository": repository,
        "labels": labels,
        "priority": priority,
        "deadline_s": deadline_s,
        "max_tokens": max_tokens,
        "max_cost": max_cost,
        "tenant": tenant,
    }
    payload = {name: value for name, value in given.items() if value is not None}
    job_id = await call(submitted, who, payload, idempotency_key or "")
    if wait_s and Scope.JOBS_READ in who.scopes:
        await waiting.settled(job_id, who, timeout_s=wait_s, until_done=False, report=reporter(ctx))
    return await call(shown, job_id, who)


async def get_job(job: JobId) -> dict[str, Any]:
    """One job: its state, its steps with their results in short, and what it waits for."""
    who = caller(Scope.JOBS_READ)
    return await call(shown, job_id_of(job), who)


async def wait_job(
    ctx: Context[Any, Any],
    job: JobId,
    timeout_s: Annotated[float, Field(ge=0, le=waiting.LONGEST_S, description="Seconds to wait at most.")] = 60,
    until: Annotated[
        Literal["settled", "done"],
        Field(description="settled: until it has ended or waits for people; done: until it has ended."),
    ] = "settled",
) -> dict[str, Any]:
    """Waits until a job has ended or waits for people, and tells its progress meanwhile. Returns the job; call it again
    where the time was too short."""
    who, job_id = caller(Scope.JOBS_READ), job_id_of(job)
    await waiting.settled(job_id, who, timeout_s=timeout_s, until_done=until == "done", report=reporter(ctx))
    return await call(shown, job_id, who)


async def list_jobs(
    state: Annotated[str | None, Field(description=f"One of {', '.join(JobState.values)}.")] = None,
    limit: Annotated[int, Field(ge=1, le=LISTED)] = 20,
) -> dict[str, Any]:
    """The jobs that you may see, newest first."""
    who = caller(Scope.JOBS_READ)
    if state is not None and state not in JobState.values:
        raise Refusal(f"state must be one of {', '.join(JobState.values)}.")
    return await call(listed, who, state, limit)


async def get_step(
    job: JobId, key: Annotated[str, Field(description="The step's key.", max_length=80)]
) -> dict[str, Any]:
    """One step of a job: its arguments, what the policies said, and its tool's result."""
    who = caller(Scope.JOBS_READ)
    return await call(_step, who, job_id_of(job), key)


async def get_log(job: JobId) -> dict[str, Any]:
    """The end of a job's log: what its commands printed and its agent said. Untrusted text."""
    who = caller(Scope.JOBS_READ)
    return {"job": job, "log": await call(log_text, who, job_id_of(job)), "note": shapes.UNTRUSTED}


async def cancel_job(job: JobId) -> dict[str, Any]:
    """Cancels what of a job has not started, and asks what runs to stop."""
    who = caller(Scope.JOBS_WRITE)
    job_id = job_id_of(job)
    await call(cancelled, who, job_id)
    return await call(shown, job_id, who)


async def list_approvals(
    state: Annotated[
        Literal["pending", "approved", "denied", "expired", "cancelled", "void"], Field(description="Which to list.")
    ] = "pending",
    job: Annotated[str | None, Field(description="Only those about this job.", max_length=40)] = None,
    limit: Annotated[int, Field(ge=1, le=shapes.APPROVALS_SHOWN)] = 20,
) -> dict[str, Any]:
    """Requests to people that you may see. They are decided by people on their pages, never by an MCP client."""
    who = caller(Scope.APPROVALS_READ)
    return await call(_approvals, who, state, None if job is None else job_id_of(job), limit)


async def list_agents() -> dict[str, Any]:
    """The agents and the repositories that a job may name."""
    who = caller(Scope.JOBS_READ)
    return await call(_catalogue, who)


_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
# function, the scope that its caller needs, what it is to a client
OWN: tuple[tuple[Callable[..., Any], str, str, ToolAnnotations], ...] = (
    (submit_job, "Submit a job", Scope.JOBS_WRITE, ToolAnnotations(read_only_hint=False, destructive_hint=False)),
    (get_job, "Get a job", Scope.JOBS_READ, _READS),
    (wait_job, "Wait for a job", Scope.JOBS_READ, _READS),
    (list_jobs, "List jobs", Scope.JOBS_READ, _READS),
    (get_step, "Get a step", Scope.JOBS_READ, _READS),
    (get_log, "Read a job's log", Scope.JOBS_READ, _READS),
    (
        cancel_job,
        "Cancel a job",
        Scope.JOBS_WRITE,
        ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True),
    ),
    (list_approvals, "List approvals", Scope.APPROVALS_READ, _READS),
    (list_agents, "List agents and repositories", Scope.JOBS_READ, _READS),
)


def reporter(ctx: Context[Any, Any]) -> waiting.Report:
    async def report(number: float, words: str) -> None:
        await ctx.report_progress(number, message=words)

    return report


def job_id_of(text: str) -> UUID:
    """Raises Refusal, also where there could be no such job."""
    try:
        return UUID(text)
    except ValueError:
        raise Refusal("There is no such job. (not_found)") from None


# What follows uses the database: it is called by `call`.


def submitted(who: Caller, payload: dict[str, Any], key: str = "") -> UUID:
    job, _ = submit(payload, user=who.user(), idempotency_key=key, took_part=makers_of(who.token()), now=timezone.now())
    return job.pk


def shown(job_id: UUID, who: Caller) -> dict[str, Any]:
    user = who.user()
    if Scope.JOBS_READ not in who.scopes:  # its own submission: that it is there, and no more
        return shapes.in_a_list(visible_job(user, job_id))
    return shapes.of_job(visible_job(user, job_id), user)


def listed(who: Caller, state: str | None, limit: int) -> dict[str, Any]:
    jobs = of_kinds(visible_jobs(who.user()), ())
    if state is not None:
        jobs = jobs.filter(state=state)
    return {"jobs": [shapes.in_a_list(job) for job in jobs[:limit]]}


def log_text(who: Caller, job_id: UUID) -> str:
    return shapes.log_of(visible_job(who.user(), job_id))


def cancelled(who: Caller, job_id: UUID) -> Job:
    """Raises AlreadyDone, NotVisible, NotAllowed."""
    user = who.user()
    job = changeable_job(user, job_id)
    if job.state in JOB_DONE and job.state != JobState.CANCELLED:
        raise AlreadyDone(f"The job has {job.state} already.")
    return cancel(job.pk, by=Actor.user(user.pk), now=timezone.now())


def _step(who: Caller, job_id: UUID, key: str) -> dict[str, Any]:
    step = visible_step(who.user(), job_id, key)
    found = shapes.of_step(step, result=False)
    more = {"arguments": step.arguments, "decision": step.decision, "result": shapes.result_of(step)}
    return {**found, **more, "note": shapes.UNTRUSTED}


def _approvals(who: Caller, state: str, job_id: UUID | None, limit: int) -> dict[str, Any]:
    found = asked.lines(asked.visible(who.user())).filter(state=ApprovalRequest.State(state)).order_by("-created_at")
    if job_id is not None:
        found = found.filter(parent_id=str(job_id))
    return {"approvals": [shapes.of_request(one) for one in found[:limit]]}


def _catalogue(who: Caller) -> dict[str, Any]:
    agents = [{"name": one.name, "description": one.description} for one in usable_agents()[:LISTED]]
    repositories = [
        {"name": one.name, "branch": one.default_branch}
        for one in visible_repositories(who.user()).order_by("name")[:LISTED]
    ]
    return {"agents": agents, "repositories": repositories}
