"""The server's tools, each as an MCP tool: a call is a job of one step, governed like any other."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError as Refusal
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from mcp_types import Tool as Definition

from agents.engine.intake import PREPARE
from agents.llm.names import from_wire, to_wire
from agents.mcp import shapes, waiting
from agents.mcp.caller import Caller, Scope, call
from agents.mcp.jobs import reporter, submitted
from agents.models import Job, Step
from agents.selectors import visible_job
from agents.states import JobState
from tools import registry
from tools.spec import Effect, Tool

KEY = "call"  # of the one step
VIA = ("mcp", "call")  # a label of such jobs
WAIT_S = 20.0

# Names that no tool's own argument has.
OPTIONS: dict[str, Any] = {
    "_repository": {
        "type": "string",
        "maxLength": 80,
        "description": "A repository by name, cloned into the workspace in which the call runs.",
    },
    "_reason": {"type": "string", "maxLength": 2000, "description": "Why, for whoever is asked to approve it."},
    "_wait_s": {
        "type": "number",
        "minimum": 0,
        "maximum": waiting.LONGEST_S,
        "description": f"Seconds to wait for the result; {WAIT_S:g} by default. The job goes on after them.",
    },
    "_idempotency_key": {
        "type": "string",
        "maxLength": 200,
        "description": "The same key with the same call gives the same job again, and does nothing twice.",
    },
}

_OUTPUT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "description": "succeeded, failed, refused, cancelled, waiting or running"},
        "job": {"type": "string"},
        "page": {"type": "string", "description": "for people"},
        "next": {"type": "string"},
        "waits_for": {"type": "array", "items": {"type": "object"}},
        "result": {"type": ["object", "null"]},
    },
    "required": ["status", "job", "page"],
}


def usable() -> list[Tool]:
    """Those that a plan may name. Uses the database."""
    return [tool for tool in registry.every() if tool.offered and not tool.starts_job]


def find(wire: str) -> Tool | None:
    """The tool that an MCP client means by a name. Uses the database."""
    every = {tool.name: tool for tool in usable()}
    name = from_wire(wire, every)
    return every[name] if name is not None else None


def definition(tool: Tool) -> Definition:
    """How a client sees the tool."""
    schema = {**tool.schema, "properties": {**tool.schema.get("properties", {}), **OPTIONS}}
    return Definition(
        name=to_wire(tool.name),
        title=tool.name,
        description=f"{tool.summary} Runs on the server as a governed job: policy decides on it, and a person may have "
        "to approve it first.",
        input_schema=schema,
        output_schema=_OUTPUT,
        annotations=ToolAnnotations(
            read_only_hint=tool.effect == Effect.READ,
            destructive_hint=tool.effect == Effect.ONCE,
            idempotent_hint=tool.effect != Effect.ONCE,
        ),
    )


async def start(tool: Tool, arguments: Mapping[str, Any], who: Caller) -> UUID:
    """Submits the call; gives the job's id.

    Raises:
        Refusal: the scope is missing, or the arguments do not fit the tool's schema.
    """
    who.need(Scope.JOBS_WRITE)
    own = {name: value for name, value in arguments.items() if name not in OPTIONS}
    step: dict[str, Any] = {"key": KEY, "tool": tool.name, "arguments": own}
    if arguments.get("_reason"):
        step["reason"] = arguments["_reason"]
    payload: dict[str, Any] = {"title": f"{tool.name}, called by MCP", "steps": [step], "labels": dict([VIA])}
    if arguments.get("_repository"):
        payload["repository"] = arguments["_repository"]
    key = arguments.get("_idempotency_key") or ""
    if not isinstance(key, str):
        raise Refusal("_idempotency_key must be a string. (invalid_input)")
    return await call(submitted, who, payload, key)


async def run(tool: Tool, arguments: Mapping[str, Any], who: Caller, ctx: Context[Any, Any]) -> CallToolResult:
    """Submits the call and waits a while for its end. Raises Refusal."""
    who.need(Scope.JOBS_READ)
    wait_s = arguments.get("_wait_s", WAIT_S)
    if isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or not 0 <= wait_s <= waiting.LONGEST_S:
        raise Refusal(f"_wait_s must be a number from 0 to {waiting.LONGEST_S}. (invalid_input)")
    job_id = await start(tool, arguments, who)
    await waiting.settled(job_id, who, timeout_s=wait_s, until_done=False, report=reporter(ctx))
    return await call(outcome, job_id, who)


def outcome(job_id: UUID, who: Caller) -> CallToolResult:
    """What became of the call by now. Uses the database."""
    user = who.user()
    job = visible_job(user, job_id)
    step = Step.objects.filter(job=job, key=KEY).first()
    found: dict[str, Any] = {
        "status": _status(job, step),
        "job": str(job.pk),
        "page": shapes.in_a_list(job)["page"],
        "result": shapes.result_of(step) if step is not None else None,
        "waits_for": shapes.waits_for(job, user),
        "next": "" if job.done else _next(job),
        "note": shapes.UNTRUSTED,
    }
    if step is not None and step.error_code:
        found |= {"error_code": step.error_code, "error": shapes.bounded(step.error, 4000)}
    elif job.done and job.state != JobState.SUCCEEDED:
        found["error"] = shapes.bounded(job.outcome or _of_others(job), 4000)
    failed = job.done and job.state != JobState.SUCCEEDED
    text = shapes.as_text(found)
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=found, is_error=failed)


def _status(job: Job, step: Step | None) -> str:
    if job.done:
        return str(step.state) if step is not None and job.state == JobState.FAILED else str(job.state)
    return "waiting" if job.state == JobState.WAITING else "running"


def _next(job: Job) -> str:
    if job.state == JobState.WAITING:
        return (
            "A person must approve this call: give them the address of its page in waits_for, then call wait_job with "
            "this job. Nothing that a client says approves it."
        )
    return "It has not ended yet: call wait_job with this job."


def _of_others(job: Job) -> str:
    first = Step.objects.filter(job=job, key=PREPARE).first()
    return first.error if first is not None else ""
