"""Sessions of the older protocol era, where this web process has them; all else is answered without."""

import json
from collections import deque
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

MOST = 1000  # of one process; a client beyond them is answered without one


class Sessions(StreamableHTTPSessionManager):
    """A session lets the server ask its client during a call, and nothing else: what it knows of a caller comes with each
    request. So a request whose session another process has, or had before it ended, is answered here without."""

    def __init__(self, server: Server[Any], *, max_request_body_size: int) -> None:
        super().__init__(server, max_request_body_size=max_request_body_size)
        self._ended: deque[str] = deque(maxlen=MOST)  # by their clients: "not found" from then on

    async def _handle_stateful_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        session = headers.get(MCP_SESSION_ID_HEADER)
        if session is not None:
            kept = session in self._server_instances or session in self._ended
            if kept and scope["method"] == "DELETE":
                self._ended.append(session)
        else:
            body, receive = await _read(receive)
            kept = len(self._server_instances) < MOST and _begins(body)
        if kept:
            await super()._handle_stateful_request(scope, receive, send)
        else:
            await self._handle_stateless_request(headers.get(MCP_PROTOCOL_VERSION_HEADER), scope, receive, send)


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """The body, and a `receive` that gives it once more."""
    messages: list[Message] = []
    more = True
    while more:
        messages.append(await receive())
        more = messages[-1]["type"] == "http.request" and messages[-1].get("more_body", False)
    body = b"".join(one.get("body", b"") for one in messages)

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return body, again


def _begins(body: bytes) -> bool:
    """Is this the handshake's first message?"""
    if b'"initialize"' not in body:
        return False
    try:
        message = json.loads(body)
    except ValueError:
        return False
    return isinstance(message, dict) and message.get("method") == "initialize"
