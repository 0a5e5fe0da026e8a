"""Tools whose calls become tasks of this process: what the suite's scenarios of the tasks extension ask for."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolRequestParams,
    CallToolResult,
    TextContent,
)

from agents.mcp.tasks import IDENTIFIER, Task
from tests.factories.mcp.asking import _ask, _form

Work = Callable[["Held"], Awaitable[str]]


@dataclass
class Held:
    """A task while it runs; `answers` come from `tasks/update`, by the keys of `asks`."""

    arguments: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid4()))
    status: str = "working"
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    changed: datetime = field(default_factory=lambda: datetime.now(UTC))
    result: CallToolResult | None = None
    error: dict[str, Any] | None = None
    asks: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    running: asyncio.Task[None] | None = None

    def move(self, status: str) -> None:
        self.status, self.changed = status, datetime.now(UTC)

    async def ask(self, **questions: str) -> dict[str, Any]:
        forms = {key: _form(text, confirm="boolean") for key, text in questions.items()}
        self.asks = {key: one.model_dump(mode="json", by_alias=True, exclude_none=True) for key, one in forms.items()}
        self.move("input_required")
        await self.answered.wait()
        self.move("working")
        return self.answers


class Fixture:
    """A source of tasks (`agents.mcp.tasks.Source`)."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._works: dict[str, Work] = {
            "slow_compute": _slow,
            "failing_job": _failing,
            "protocol_error_job": _broken,
            "confirm_delete": _confirm,
            "multi_input": _several,
        }

    async def start(self, params: CallToolRequestParams) -> Task | None:
        work, arguments = self._works.get(params.name), params.arguments or {}
        if params.name == "test_tool_with_task":
            given = (params.input_responses or {}).get("user_name")
            if given is None:
                return None  # the tool asks first
            work, arguments = _greets, {"name": given.content["name"]}
        if work is None:
            return None
        held = Held(arguments)
        self._held[held.id] = held
        held.running = asyncio.get_running_loop().create_task(_run(held, work))
        return _task(held)

    async def get(self, task_id: str) -> Task | None:
        return _task(self._held[task_id]) if task_id in self._held else None

    async def cancel(self, task_id: str) -> bool:
        held = self._held.get(task_id)
        if held is not None and held.status in {"working", "input_required"} and held.running is not None:
            held.running.cancel()
            held.move("cancelled")
        return held is not None

    async def answer(self, task_id: str, answers: Mapping[str, Any]) -> bool:
        held = self._held.get(task_id)
        if held is None:
            return False
        for key in set(answers) & set(held.asks):
            held.answers[key] = answers[key]
            del held.asks[key]
        if held.answers and not held.asks:
            held.answered.set()
        return True


async def _run(held: Held, work: Work) -> None:
    try:
        text, failed = await work(held), False
    except MCPError as error:
        held.error = {"code": error.error.code, "message": error.error.message}
        return held.move("failed")
    except ToolError as error:
        text, failed = str(error), True
    held.result = CallToolResult(content=[TextContent(type="text", text=text)], is_error=failed)
    held.move("completed")


def _task(held: Held) -> Task:
    return Task(
        id=held.id,
        status=held.status,
        created_at=held.began,
        updated_at=held.changed,
        result=held.result,
        error=held.error,
        asks=held.asks if held.status == "input_required" else None,
    )


async def _slow(held: Held) -> str:
    await asyncio.sleep(float(held.arguments.get("seconds", 0)))
    return f"computed {held.arguments.get('label', '')}"


async def _failing(held: Held) -> str:
    raise ToolError("It fails, as it must.")


async def _broken(held: Held) -> str:
    raise MCPError(INTERNAL_ERROR, "It broke, as it must.")


async def _confirm(held: Held) -> str:
    answers = await held.ask(confirm=f"Delete {held.arguments.get('filename')}?")
    return f"answered {answers['confirm']}"


async def _several(held: Held) -> str:
    return f"answered {sorted(await held.ask(first='One?', second='Two?'))}"


async def _greets(held: Held) -> str:
    return f"Hello, {held.arguments['name']}!"


def add_to(server: MCPServer[Any]) -> None:
    """The same tools for clients that do not declare the extension: they wait, or are refused."""

    @server.tool(description="Greets at once.")
    async def greet(name: str) -> str:
        return f"Hello, {name}!"

    @server.tool(description="Takes its time.")
    async def slow_compute(seconds: float = 0, label: str = "") -> str:
        await asyncio.sleep(min(seconds, 5))
        return f"computed {label}"

    for name in ("failing_job", "protocol_error_job", "confirm_delete", "multi_input"):
        server.add_tool(_only_a_task, name=name, description="Runs as a task only.")

    @server.tool(description="Asks for a name, then runs as a task.", structured_output=False)
    async def test_tool_with_task(ctx: Context[Any, Any]) -> Any:
        return _ask(user_name=_form("What is your name?", name="string"))


async def _only_a_task() -> str:
    needed = {"requiredCapabilities": {"extensions": {IDENTIFIER: {}}}}
    raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool runs as a task.", needed)
