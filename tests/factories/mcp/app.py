"""`uvicorn tests.factories.mcp.app:application`: the server of production, with the suite's tools beside its own.

The suite sends no token: what comes without one gets that of the variable MCP_FIXTURE_TOKEN.
"""

import os
from typing import Any

import django

django.setup()

# isort: split
from agents.mcp.app import Beside  # noqa: E402
from agents.mcp.server import create  # noqa: E402
from config.asgi import pages  # noqa: E402
from tests.factories.mcp import asking, content, tasks  # noqa: E402

server = create(tasks.Fixture())
content.add_to(server)
asking.add_to(server)
tasks.add_to(server)
beside = Beside(pages, server)


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and not any(name == b"authorization" for name, _ in scope["headers"]):
        bearer = f"Bearer {os.environ['MCP_FIXTURE_TOKEN']}".encode()
        scope = {**scope, "headers": [*scope["headers"], (b"authorization", bearer)]}
    await beside(scope, receive, send)
