"""The sessions of this process: one a job and server, opened by its first call and used by those that follow.

Another job, another way to start the server, other secrets or other constraints of the call are another session. It ends
when nobody has used it for a while, when the workspace is gone, and at once where a call of a stdio server is cancelled or
late, so that nothing of it runs on.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from urllib.parse import urlsplit

from mcp.client._transport import TransportStreams

from audit.canonical import canonical_json
from tools import secrets
from tools.box import SandboxBox
from tools.egress.allowlist import Allowlist
from tools.egress.record import Connections
from tools.errors import ToolFailed, ToolRefused
from tools.mcp.models import McpServer
from tools.mcp.session import Log, Session, Way
from tools.mcp.stdio import StdioWay
from tools.mcp.web import Web, place, web_streams

SESSIONS_MAX = 64
_IDLE_LEAST_S = 5.0  # between the opening and the call itself; idle_s 0 is closed by its caller
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_open: dict[Hashable, Session] = {}
_lock = threading.Lock()


class WebWay:
    """How a session reaches a server over HTTP. connections: the record of all its connections."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self.connections = web.record

    def streams(self) -> AbstractAsyncContextManager[TransportStreams]:
        return web_streams(self._web)

    def over(self) -> bool:
        return False

    def words(self) -> str:
        """What kept it from being reached, where something did."""
        return next((entry["why"] for entry in self.connections.as_json() if entry.get("why")), "")


def session_for(server: McpServer, box: SandboxBox, *, tool: str, log: Log) -> Session:
    """The job's open session with this server, as this call may use it; a new one where there is none.

    tool: in whose name secrets are used. Each use of a secret is checked and recorded, whether or not a session is open.

    Raises:
        ToolRefused: a secret may not be used so, or the call's constraints forbid the server's hosts.
        ToolFailed: the server cannot be started or reached, or too many sessions are in use.
    """
    given = _secrets(server, box, tool)
    key = (server.pk, canonical_json(server.facts()), box.terms(), _tag(given))
    with _lock:
        for old in [one for one, session in _open.items() if session.over]:
            del _open[old]
        session = _open.get(key)
        if session is None:
            _make_room()
            session = _open[key] = _made(server, box, given)
            session.open()
    session.wait_open(cancelled=box.cancelled, log=log)
    return session


def opened(server: McpServer, box: SandboxBox, *, tool: str, log: Log) -> Session:
    """A session of its own, which the caller closes. Raises as `session_for`."""
    session = _made(server, box, _secrets(server, box, tool))
    session.open()
    try:
        session.wait_open(cancelled=box.cancelled, log=log)
    except BaseException:
        session.close()
        raise
    return session


def account(session: Session, box: SandboxBox, since: datetime) -> None:
    """What the session did for this call since then goes into the call's own record."""
    way = session.way
    if isinstance(way, StdioWay):
        box.include(way.box, since)
    elif isinstance(way, WebWay):
        box.connections.include(way.connections, since)


def close_all(*, wait_s: float = 0.0) -> None:
    """Ends every session of this process."""
    with _lock:
        sessions = list(_open.values())
        _open.clear()
    for session in sessions:
        session.close()
    for session in sessions:
        session.close(wait_s=wait_s)


def _make_room() -> None:
    if len(_open) < SESSIONS_MAX:
        return
    key, longest = min(_open.items(), key=lambda item: item[1].idle_since_s)
    if longest.idle_since_s == math.inf:
        raise ToolFailed(f"{SESSIONS_MAX} MCP sessions are in use here: try again later.", transient=True)
    longest.close()
    del _open[key]


def _made(server: McpServer, box: SandboxBox, given: dict[str, str]) -> Session:
    way: Callable[[Callable[[str], None]], Way]
    if server.transport == McpServer.Transport.STDIO:
        if server.network:
            box.reachable(Allowlist.parse(server.network))
        way = partial(StdioWay, server, box, given)
    else:
        web = WebWay(_web(server, box, given))
        way = lambda say: web  # noqa: E731
    return Session(server.name, way, mode=server.protocol, idle_s=max(_IDLE_LEAST_S, server.idle_s))


def _web(server: McpServer, box: SandboxBox, given: dict[str, str]) -> Web:
    oauth = server.auth == McpServer.Auth.OAUTH
    addresses = [server.url, *([server.issuer] if oauth else [])]
    for address in addresses:
        box.reach(address)
    return Web(
        url=server.url,
        allow=Allowlist.parse(place(address) for address in addresses),
        record=Connections(),
        token=given.get("bearer", ""),
        client_id=server.client_id if oauth else "",
        client_secret=given.get("client_secret", ""),
        issuer=server.issuer if oauth else "",
        scopes=server.scopes if oauth else "",
    )


def _secrets(server: McpServer, box: SandboxBox, tool: str) -> dict[str, str]:
    """{variable, "bearer" or "client_secret": value}. Each use is on record."""
    if server.transport == McpServer.Transport.STDIO:
        hosts = Allowlist.parse(server.network).words() if server.network else ()
        return secrets.environment(server.secrets, tool=tool, hosts=hosts) if server.secrets else {}
    if server.auth == McpServer.Auth.NONE:
        return {}
    bearer = server.auth == McpServer.Auth.BEARER
    address = server.url if bearer else server.issuer
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise ToolRefused("A secret is sent over https only.", url=address)
    box.reach(address)
    value = secrets.resolve(server.secret, tool=tool, host=place(address))
    if not value.isascii() or any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise ToolRefused("This secret cannot stand in a header.", secret=server.secret)
    return {"bearer" if bearer else "client_secret": value}


def _tag(given: dict[str, str]) -> str:
    return hashlib.sha256(canonical_json(given)).hexdigest() if given else ""
