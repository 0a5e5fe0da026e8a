"""The tasks extension (`io.modelcontextprotocol/tasks`, protocol 2026-07-28): a long call gives a task at once.

A task is a job: its id is the job's, so that any web process answers for it, and it outlives all of them. A client that
declares the extension gets one from `submit_job` and from every governed call; others wait as long as they like.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.server.mcpserver.exceptions import ToolError as Refusal
from mcp.shared.exceptions import MCPError
from mcp_types import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    RequestParams,
    TextContent,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

from agents.errors import AlreadyDone, NotVisible
from agents.mcp import governed, jobs, shapes
from agents.mcp.caller import Caller, Scope, call, caller
from agents.models import Job
from agents.selectors import visible_job
from agents.states import JobState

IDENTIFIER = "io.modelcontextprotocol/tasks"
TTL_MS = 86_400_000
POLL_MS = 1000
Context = ServerRequestContext[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """status: working, completed, cancelled or failed; result: of a completed one, as `tools/call` would give it;
    error: of a failed one, as JSON-RPC has it; message: what it does now, for people."""

    id: str
    status: str
    created_at: datetime
    updated_at: datetime
    message: str = ""
    result: CallToolResult | None = None
    error: Mapping[str, Any] | None = None
    asks: Mapping[str, Any] | None = None

    def on_wire(self, *, whole: bool) -> dict[str, Any]:
        """whole: with its result, as `tasks/get` gives it."""
        found: dict[str, Any] = {
            "resultType": "complete" if whole else "task",
            "taskId": self.id,
            "status": self.status,
            "createdAt": self.created_at.isoformat(),
            "lastUpdatedAt": self.updated_at.isoformat(),
            "ttlMs": TTL_MS,
            "pollIntervalMs": POLL_MS,
        }
        if self.message:
            found["statusMessage"] = self.message
        if whole and self.result is not None:
            found["result"] = self.result.model_dump(mode="json", by_alias=True, exclude_none=True)
        if whole and self.error is not None:
            found["error"] = dict(self.error)
        if whole and self.asks is not None:
            found["inputRequests"] = dict(self.asks)
        return found


class Source(Protocol):
    """Whose calls become tasks."""

    async def start(self, params: CallToolRequestParams) -> Task | None:
        """Begins the call; None: this tool answers at once. Raises Refusal, MCPError."""
        ...

    async def get(self, task_id: str) -> Task | None:
        """None: it is none of its own."""
        ...

    async def cancel(self, task_id: str) -> bool:
        """False: it is none of its own. One that has ended stays as it is."""
        ...

    async def answer(self, task_id: str, answers: Mapping[str, Any]) -> bool:
        """What a client says where a task asks. False: it is none of its own."""
        ...


class Jobs:
    """`submit_job` and the governed calls."""

    async def start(self, params: CallToolRequestParams) -> Task | None:
        tool = await call(governed.find, params.name)
        if tool is None:
            return None
        who = caller(Scope.JOBS_READ)
        return await call(_task, who, str(await governed.start(tool, params.arguments or {}, who)))

    async def get(self, task_id: str) -> Task | None:
        who = caller(Scope.JOBS_READ)
        return await call(_task, who, task_id)

    async def cancel(self, task_id: str) -> bool:
        who = caller(Scope.JOBS_WRITE)
        if await call(_task, who, task_id) is None:
            return False
        try:
            await call(jobs.cancelled, who, UUID(task_id))
        except Refusal as error:
            if not isinstance(error.__cause__, AlreadyDone):
                raise
        return True

    async def answer(self, task_id: str, answers: Mapping[str, Any]) -> bool:
        """A job asks people on its page, never a client."""
        return await self.get(task_id) is not None


class GetParams(RequestParams):
    task_id: str = Field(alias="taskId", max_length=200)


class UpdateParams(GetParams):
    input_responses: dict[str, Any] = Field(alias="inputResponses", default_factory=dict)


class Tasks(Extension):
    identifier = IDENTIFIER

    def __init__(self, *more: Source) -> None:
        self._sources: Sequence[Source] = (*more, Jobs())

    def methods(self) -> Sequence[MethodBinding]:
        versions = frozenset(MODERN_PROTOCOL_VERSIONS)
        return [
            MethodBinding("tasks/get", GetParams, self._get, versions),
            MethodBinding("tasks/update", UpdateParams, self._update, versions),
            MethodBinding("tasks/cancel", GetParams, self._cancel, versions),
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: Context, call_next: CallNext
    ) -> HandlerResult:
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS or not _declared(ctx):
            return await call_next(ctx)
        try:
            for source in self._sources:
                task = await source.start(params)
                if task is not None:
                    return task.on_wire(whole=False)
        except Refusal as error:
            return CallToolResult(content=[TextContent(type="text", text=str(error))], is_error=True)
        result = await call_next(ctx)
        if params.name == jobs.submit_job.__name__ and isinstance(result, CallToolResult) and not result.is_error:
            who = caller()
            task = await call(_task, who, str((result.structured_content or {}).get("id")))
            return result if task is None or Scope.JOBS_READ not in who.scopes else task.on_wire(whole=False)
        return result

    async def _get(self, ctx: Context, params: GetParams) -> HandlerResult:
        _admit(ctx, params)
        for source in self._sources:
            task = await _asked(source.get(params.task_id))
            if task is not None:
                return task.on_wire(whole=True)
        raise _unknown()

    async def _update(self, ctx: Context, params: UpdateParams) -> HandlerResult:
        _admit(ctx, params)
        for source in self._sources:
            if await _asked(source.answer(params.task_id, params.input_responses)):
                return {"resultType": "complete"}
        raise _unknown()

    async def _cancel(self, ctx: Context, params: GetParams) -> HandlerResult:
        _admit(ctx, params)
        for source in self._sources:
            if await _asked(source.cancel(params.task_id)):
                return {"resultType": "complete"}
        raise _unknown()


async def _asked(answer: Any) -> Any:
    try:
        return await answer
    except Refusal as error:
        raise MCPError(code=INVALID_PARAMS, message=str(error)) from error


def _admit(ctx: Context, params: GetParams) -> None:
    """The client declares the extension, and the header by which proxies route names the same task.

    Raises MCPError.
    """
    require_client_extension(ctx, IDENTIFIER)
    headers = getattr(ctx.request, "headers", None)
    named = headers.get("mcp-name") if headers is not None else None
    if named is None or named.strip() != params.task_id:
        raise MCPError(code=HEADER_MISMATCH, message="The header Mcp-Name must be the task's id.")


def _declared(ctx: Context) -> bool:
    capabilities = ctx.session.client_capabilities
    return IDENTIFIER in ((capabilities.extensions if capabilities is not None else None) or {})


def _unknown() -> MCPError:
    return MCPError(code=INVALID_PARAMS, message="There is no such task.")


def _task(who: Caller, task_id: str) -> Task | None:
    """The job of this id as a task; None where there is none that the caller may see. Uses the database."""
    user = who.user()
    try:
        job = visible_job(user, UUID(task_id))
    except (ValueError, NotVisible):
        return None
    of_call = job.labels.get(governed.VIA[0]) == governed.VIA[1]
    result = None
    if job.done and job.state != JobState.CANCELLED:
        result = governed.outcome(job.pk, who) if of_call else _result(job, jobs.shown(job.pk, who))
    return Task(
        id=str(job.pk),
        status=_status(job),
        created_at=job.created_at,
        updated_at=job.finished_at or job.started_at or job.created_at,
        message=_message(job, shapes.waits_for(job, user)),
        result=result,
    )


def _status(job: Job) -> str:
    if not job.done:
        return "working"
    return "cancelled" if job.state == JobState.CANCELLED else "completed"


def _message(job: Job, waits_for: Sequence[Mapping[str, Any]]) -> str:
    if waits_for:
        return f"Waits for people: {waits_for[0]['title']}. Decide at {waits_for[0]['page']}"
    return f"The job is {job.state}."


def _result(job: Job, shown: Mapping[str, Any]) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=shapes.as_text(shown))],
        structured_content=dict(shown),
        is_error=job.state != JobState.SUCCEEDED,
    )
