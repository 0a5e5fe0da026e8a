"""An MCP server over streamable HTTP, in a thread of the tests' process: open, behind a token, or behind OAuth."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import anyio
import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

CLIENT = ("countersign", "s3cr3t/Value+with=signs & more")


@dataclass
class Web:
    """seen: (path, Authorization) of each request; token: which is wanted, "" for none; oauth: whether it says where to get
    one; elsewhere: an address that it names as its authorization server's token endpoint instead of its own."""

    token: str = ""
    oauth: bool = False
    elsewhere: str = ""
    port: int = 0
    seen: list[tuple[str, str]] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/mcp"

    def pages(self, path: str) -> dict[str, Any] | None:
        """What an authorization server and a protected resource say of themselves (RFC 8414, RFC 9728)."""
        if not self.oauth:
            return None
        if path.startswith("/.well-known/oauth-protected-resource"):
            return {"resource": self.url, "authorization_servers": [self.root]}
        if path.startswith("/.well-known/oauth-authorization-server"):
            return {
                "issuer": self.root,
                "authorization_endpoint": f"{self.root}/authorize",
                "token_endpoint": self.elsewhere or f"{self.root}/token",
                "response_types_supported": ["code"],
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            }
        return None


def _server(web: Web) -> MCPServer:
    made = MCPServer(name="web", version="1")

    @made.tool(description="Says it again.")
    def echo(text: str) -> str:
        return text

    @made.tool(description="Takes a while, and tells how far it is.")
    async def slow(seconds: float, context: Context) -> str:
        try:
            await context.report_progress(1, 2, "half")
            await anyio.sleep(seconds)
        except anyio.get_cancelled_exc_class():
            web.cancelled.set()
            raise
        return "done"

    return made


def _guarded(web: Web, inner: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        path = scope["path"]
        given = next((value.decode() for name, value in scope["headers"] if name == b"authorization"), "")
        web.seen.append((path, given))
        page = web.pages(path)
        if page is not None:
            await _answer(send, 200, page)
        elif path == "/token" and web.oauth:
            body = parse_qs((await receive())["body"].decode())
            pair = base64.b64decode(given.removeprefix("Basic ")).decode().split(":")
            fine = tuple(map(unquote, pair)) == CLIENT and body["grant_type"] == ["client_credentials"]
            token = {"access_token": web.token, "token_type": "Bearer", "expires_in": 3600}
            await _answer(send, *((200, token) if fine else (401, {"error": "invalid_client"})))
        elif web.token and given != f"Bearer {web.token}":
            where = f'Bearer resource_metadata="{web.root}/.well-known/oauth-protected-resource/mcp"'
            await _answer(send, 401, {"error": "invalid_token"}, (b"www-authenticate", where.encode()))
        else:
            await inner(scope, receive, send)

    return app


async def _answer(send: Any, status: int, body: dict[str, Any], *headers: tuple[bytes, bytes]) -> None:
    kind = (b"content-type", b"application/json")
    await send({"type": "http.response.start", "status": status, "headers": [kind, *headers]})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


@contextmanager
def serve(**how: Any) -> Iterator[Web]:
    """On a free port of 127.0.0.1."""
    web = Web(**how)
    app = _guarded(web, _server(web).streamable_http_app())
    runs = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1))
    listening = runs.config.bind_socket()
    web.port = listening.getsockname()[1]
    thread = threading.Thread(target=runs.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield web
    runs.should_exit = True
    thread.join(15)
