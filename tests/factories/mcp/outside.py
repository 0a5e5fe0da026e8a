"""An MCP client of the SDK, as a stranger's program would use one: over HTTP, in a thread of its own."""

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx2
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

ERAS = {"2025-11-25": "legacy", "2026-07-28": "auto"}  # the client's modes
TIMEOUT_S = 60


class Outside:
    """What tests do with a client. Each call ends or fails within TIMEOUT_S."""

    def __init__(self, portal: BlockingPortal, client: Client) -> None:
        self._portal, self.client = portal, client

    def run(self, function: Any, *arguments: Any, **named: Any) -> Any:
        return self.begin(function, *arguments, **named).result(TIMEOUT_S)

    def begin(self, function: Any, *arguments: Any, **named: Any) -> Future[Any]:
        return self._portal.start_task_soon(partial(function, *arguments, **named))

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """The structured result of a tool that did not fail."""
        result = self.run(self.client.call_tool, name, arguments)
        assert not result.is_error, result.content
        return result.structured_content

    def refused(self, name: str, **arguments: Any) -> str:
        """What a tool says that failed."""
        result = self.run(self.client.call_tool, name, arguments)
        assert result.is_error, result.structured_content
        return result.content[0].text

    def tools(self) -> dict[str, Any]:
        return {tool.name: tool for tool in self.run(self.client.list_tools).tools}


@contextmanager
def outside(url: str, token: str, *, era: str = "2026-07-28", **more: Any) -> Iterator[Outside]:
    """A connected client of the server at `url`."""
    with start_blocking_portal() as portal:
        headers = {"Authorization": f"Bearer {token}"}
        http = httpx2.AsyncClient(headers=headers, timeout=TIMEOUT_S, trust_env=False)
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        with (
            portal.wrap_async_context_manager(http),
            portal.wrap_async_context_manager(Client(transport, mode=ERAS[era], **more)) as client,
        ):
            assert client.protocol_version == era
            yield Outside(portal, client)
