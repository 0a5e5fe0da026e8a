"""MCP over HTTP: every connection is made by `tools.egress`, to the hosts that the server's row names and no other."""

import select
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpcore2
import httpx2
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSAttribute, TLSStream
from httpcore2 import AsyncNetworkBackend, AsyncNetworkStream
from mcp.client._transport import TransportStreams
from mcp.client.auth import TokenStorage
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from tools.builtin.http.client import tls_context
from tools.egress.allowlist import Allowlist
from tools.egress.connect import link
from tools.egress.record import Connection, Connections
from tools.errors import ToolError, ToolRefused

EVENT_MAX_BYTES = 8 * 1024**2
BODY_MAX_BYTES = 16 * 1024**2  # of an answer that is no stream of events
_CONNECT_S = 15.0
_READ_S = 3900.0  # longer than any call may take: its own deadline ends it


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """url: of the server; token: sent as a bearer; or client_id, client_secret, issuer, scopes: of OAuth; allow: the hosts
    that may be reached; record: gets every connection."""

    url: str
    allow: Allowlist
    record: Connections
    token: str = field(default="", repr=False)
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    issuer: str = ""
    scopes: str = ""


def place(url: str) -> str:
    """`host:port` of an address, as allow-lists and secrets name it.

    Raises:
        ToolRefused: it is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}[parts.scheme]
    except (ValueError, KeyError):
        raise ToolRefused(f"{url[:200]!r} is no address.") from None
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{port}"


@asynccontextmanager
async def web_streams(web: Web) -> AsyncIterator[TransportStreams]:
    """The streams of a session with this server."""
    headers = {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {web.token}"} if web.token else {})}
    async with (
        httpx2.AsyncClient(
            transport=_Transport(web),
            headers=headers,
            auth=_oauth(web) if web.client_id else None,
            timeout=httpx2.Timeout(_CONNECT_S, read=_READ_S),
            trust_env=False,
            follow_redirects=False,
        ) as client,
        streamable_http_client(web.url, http_client=client, max_sse_event_size=EVENT_MAX_BYTES) as streams,
    ):
        yield streams


def _oauth(web: Web) -> httpx2.Auth:
    return ClientCredentialsOAuthProvider(
        web.url,
        _Tokens(),
        web.client_id,
        web.client_secret,
        scope=web.scopes or None,
        issuer=web.issuer,
    )


class _Tokens(TokenStorage):
    """In memory, for one session."""

    def __init__(self) -> None:
        self._token: OAuthToken | None = None
        self._client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self._token

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._token = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._client = client_info


class _Transport(httpx2.AsyncHTTPTransport):
    """httpx2's own, over connections that were judged."""

    def __init__(self, web: Web) -> None:
        context = tls_context()
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context, network_backend=_Backend(web), max_connections=20, keepalive_expiry=60.0
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answers are bounded, and none is compressed: a small one could become one without end."""
        response = await super().handle_async_request(request)
        coding = response.headers.get("content-encoding", "identity")
        if coding != "identity":
            await response.aclose()
            raise httpx2.RemoteProtocolError(f"The answer is encoded as {coding[:40]}, which was not asked for.")
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _Bounded(response.stream)
        return response


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = BODY_MAX_BYTES
        async for chunk in self._inner:
            left -= len(chunk)
            if left < 0:
                raise httpx2.RemoteProtocolError(f"The answer is longer than {BODY_MAX_BYTES} bytes.")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Backend(AsyncNetworkBackend):
    def __init__(self, web: Web) -> None:
        self._web = web

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncNetworkStream:
        began_s = time.monotonic()
        try:
            made = await anyio.to_thread.run_sync(self._link, host, port, timeout or _CONNECT_S)
        except ToolError as error:
            raise httpcore2.ConnectError(error.message) from error
        try:
            made.sock.setblocking(False)
            stream = await SocketStream.from_socket(made.sock)
        except BaseException:
            made.sock.close()
            made.entry.end(f"after {time.monotonic() - began_s:.1f} s")
            raise
        return _Stream(stream, made.entry)

    def _link(self, host: str, port: int, timeout_s: float) -> Any:
        return link(host, port, allow=self._web.allow, record=self._web.record, timeout_s=timeout_s)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> AsyncNetworkStream:
        raise httpcore2.ConnectError("There are no unix sockets here.")

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class _Stream(AsyncNetworkStream):
    """A connection whose bytes are counted in the record."""

    def __init__(self, stream: ByteStream, entry: Connection) -> None:
        self._stream = stream
        self._entry = entry

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _named(httpcore2.ReadTimeout, httpcore2.ReadError):
            with anyio.fail_after(timeout):
                try:
                    data = await self._stream.receive(max_bytes)
                except anyio.EndOfStream:
                    data = b""
        self._entry.count(received=len(data))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _named(httpcore2.WriteTimeout, httpcore2.WriteError):
            with anyio.fail_after(timeout):
                if buffer:
                    await self._stream.send(buffer)
        self._entry.count(sent=len(buffer))

    async def aclose(self) -> None:
        await self._stream.aclose()
        self._entry.end()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> AsyncNetworkStream:
        try:
            with _named(httpcore2.ConnectTimeout, httpcore2.ConnectError):
                with anyio.fail_after(timeout):
                    secured = await TLSStream.wrap(
                        self._stream, hostname=server_hostname, ssl_context=ssl_context, standard_compatible=False
                    )
        except BaseException:
            await self.aclose()
            raise
        return _Stream(secured, self._entry)

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return self._stream.extra(TLSAttribute.ssl_object, None)
        if info == "socket":
            return self._stream.extra(SocketAttribute.raw_socket, None)
        if info == "is_readable":
            return _readable(self._stream.extra(SocketAttribute.raw_socket, None))
        return None


def _readable(sock: Any) -> bool:
    """Of an idle connection: has the other side closed it?"""
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def _named(late: type[Exception], broken: type[Exception]) -> Iterator[None]:
    """Errors as httpx2 knows them."""
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, ssl.SSLError) as error:
        raise broken(str(error) or type(error).__name__) from error
