"""The MCP server beside Django in one web process."""

import logging

from django.conf import settings
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from agents.mcp.door import METADATA_PATHS, PATH, Door, answer_metadata
from agents.mcp.server import Governed, create
from agents.mcp.sessions import Sessions


class Beside:
    """`/mcp` and its metadata go to the MCP server, all else to `web`. It needs the lifespan of the web server, within
    which the MCP server's own tasks run."""

    def __init__(self, web: ASGIApp, server: Governed | None = None) -> None:
        logging.getLogger("mcp").setLevel(logging.WARNING)  # it tells of every request that a tool refuses
        self._web = web
        sessions = Sessions(
            (server or create()).lowlevel, max_request_body_size=settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        )  # without its own look at the host: the door has looked
        self._mcp: ASGIApp = Starlette(
            routes=[Route(PATH, StreamableHTTPASGIApp(sessions))], lifespan=lambda _: sessions.run()
        )
        self._door = Door(self._mcp)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._mcp(scope, receive, send)
        path = scope.get("path", "").rstrip("/")
        if scope["type"] == "http" and path == PATH:
            return await self._door({**scope, "path": PATH}, receive, send)
        if scope["type"] == "http" and path in METADATA_PATHS:
            return await answer_metadata(scope, receive, send)
        await self._web(scope, receive, send)
