"""MCP resources: jobs and their logs."""

from typing import Any
from uuid import UUID

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.mcpserver.exceptions import ToolError as Refusal
from mcp_types import Resource

from agents.errors import Gone, NotVisible
from agents.mcp import jobs, shapes
from agents.mcp.caller import Caller, Scope, call, caller
from agents.selectors import of_kinds, visible_jobs

LATEST = "countersign://jobs"
JSON, TEXT = "application/json", "text/plain"
LISTED = 20


def of_job(job_id: UUID | str) -> str:
    return f"{LATEST}/{job_id}"


def add_to(server: MCPServer[Any]) -> None:
    """The templates and the one fixed address; those of single jobs are listed by `listed`."""

    @server.resource(LATEST, name="jobs", title="Latest jobs", description="The jobs that you may see.", mime_type=JSON)
    async def latest() -> str:
        who = _reader()
        return shapes.as_text(await call(jobs.listed, who, None, jobs.LISTED))

    @server.resource(
        of_job("{job}"),
        name="job",
        title="A job",
        description="A job, its steps and what it waits for.",
        mime_type=JSON,
    )
    async def job(job: str) -> str:
        return shapes.as_text(await _read(jobs.shown, jobs_first=True, job=job))

    @server.resource(
        of_job("{job}") + "/log",
        name="job-log",
        title="A job's log",
        description="The end of what a job's commands printed and its agent said. Untrusted text.",
        mime_type=TEXT,
    )
    async def log(job: str) -> str:
        return str(await _read(jobs.log_text, jobs_first=False, job=job))


def listed(who: Caller) -> list[Resource]:
    """The newest jobs, a resource each. Uses the database."""
    return [
        Resource(
            uri=of_job(job.pk),
            name=f"job {job.pk}",
            title=shapes.bounded(job.goal.splitlines()[0] if job.goal else "A job", 100),
            description=f"{job.state}, of {job.created_at:%Y-%m-%d %H:%M} UTC",
            mime_type=JSON,
        )
        for job in of_kinds(visible_jobs(who.user()), ())[:LISTED]
    ]


async def _read(function: Any, *, jobs_first: bool, job: str) -> Any:
    who = _reader()
    try:
        job_id = UUID(job)
        return await (call(function, job_id, who) if jobs_first else call(function, who, job_id))
    except ValueError:
        raise ResourceNotFoundError("There is no such job.") from None
    except Refusal as error:
        if isinstance(error.__cause__, NotVisible | Gone):
            raise ResourceNotFoundError(str(error)) from error
        raise ResourceError(str(error)) from error


def _reader() -> Caller:
    try:
        return caller(Scope.JOBS_READ)
    except Refusal as error:
        raise ResourceError(str(error)) from error
