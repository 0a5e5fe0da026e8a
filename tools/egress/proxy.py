"""The way out of a sandbox: an HTTP proxy in the worker, on a socket that listens in the command's own network.

The launcher makes that socket and sends its descriptor here (`tools.sandbox.loopback`). CONNECT passes TLS through; plain
`http://` requests are sent on one by one. Every host is looked up, judged and connected here (`tools.egress.connect`).
"""

import contextlib
import os
import select
import socket
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from django.conf import settings

from tools.egress import requests
from tools.egress.bodies import Chunked, Filter, Hello, Length
from tools.egress.connect import Allowlist, Connections, Exceptions, Link, Resolver, link
from tools.egress.relay import relay
from tools.errors import ToolFailed, ToolRefused
from tools.sandbox.loopback import PROXY_PORT

ADDRESS = f"http://127.0.0.1:{PROXY_PORT}"
OPEN_MAX = 64

_END_S = 2.0  # for the connections' threads, when the command has ended
_DRAIN_S = 0.5
_PAUSE_S = 0.05
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_STATUS = {400: "Bad Request", 403: "Forbidden", 408: "Request Timeout", 502: "Bad Gateway"}


def environment() -> dict[str, str]:
    """What tells common programs of the proxy: curl, git, pip, npm, yarn, node, cargo, go and others."""
    upper = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), ADDRESS)
    more = dict.fromkeys(("npm_config_proxy", "npm_config_https_proxy", "PIP_PROXY", "CARGO_HTTP_PROXY"), ADDRESS)
    return {**upper, **{name.lower(): ADDRESS for name in upper}, **more, "NODE_USE_ENV_PROXY": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """head_s: for a request's whole head; connect_s: look-up and connection; idle_s: without a byte either way."""

    head_s: float = 15.0
    connect_s: float = 20.0
    idle_s: float = 120.0


class Proxy:
    """Serves one command, as a context manager; when it ends, so does every connection.

    At most `OPEN_MAX` connections are open at a time; further ones wait. Each stands in `record`, and what is refused
    as well.
    """

    def __init__(
        self,
        allow: Allowlist,
        record: Connections,
        *,
        exceptions: Exceptions | None = None,
        resolver: Resolver | None = None,
        timeouts: Timeouts = Timeouts(),
    ) -> None:
        self._allow = allow
        self._record = record
        self._exceptions = exceptions or Exceptions.parse(settings.EGRESS_EXCEPTIONS)
        self._resolver = resolver
        self._timeouts = timeouts
        self._channel, self._theirs = socket.socketpair()
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._slots = threading.Semaphore(OPEN_MAX)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._ended = threading.Event()
        self._serving = threading.Thread(target=self._serve, name="egress-proxy", daemon=True)

    @property
    def handover_fd(self) -> int:
        """Where the launcher sends the listening socket."""
        return self._theirs.fileno()

    def __enter__(self) -> Self:
        self._serving.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        os.write(self._wake, b"1")
        self._theirs.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            threads = list(self._threads)
        deadline_s = time.monotonic() + _END_S
        for thread in (self._serving, *threads):
            thread.join(max(0.0, deadline_s - time.monotonic()))
        self._record.end_all("the command ended")
        if not self._serving.is_alive():
            self._channel.close()
            os.close(self._woken)
            os.close(self._wake)

    def _serve(self) -> None:
        listener = self._listener()
        if listener is None:
            return
        with listener:
            listener.setblocking(False)
            while not self._ended.is_set():
                select.select([listener.fileno(), self._woken], [], [])
                if self._ended.is_set():
                    return
                if not self._slots.acquire(timeout=0.1):
                    continue
                try:
                    client, _ = listener.accept()
                except OSError:  # it went away, or there are no descriptors left
                    self._slots.release()
                    self._ended.wait(_PAUSE_S)
                    continue
                self._start(client)

    def _listener(self) -> socket.socket | None:
        """The socket that the launcher sends, None where the command ends before."""
        ready, _, _ = select.select([self._channel.fileno(), self._woken], [], [])
        if self._channel.fileno() not in ready:
            return None
        try:
            _, descriptors, _, _ = socket.recv_fds(self._channel, 16, 1)
        except OSError:
            return None
        if not descriptors:
            return None
        listener = socket.socket(fileno=descriptors[0])
        if listener.family != socket.AF_INET or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.close()
            return None
        return listener

    def _start(self, client: socket.socket) -> None:
        thread = threading.Thread(target=self._handle, args=(client,), name="egress-connection", daemon=True)
        with self._lock:
            self._open.add(client)
            self._threads.add(thread)
        thread.start()

    def _handle(self, client: socket.socket) -> None:
        try:
            self._answer(client)
        except OSError:
            pass  # the command hung up
        finally:
            with self._lock:
                self._open.discard(client)
                self._threads.discard(threading.current_thread())
            client.close()
            self._slots.release()

    def _answer(self, client: socket.socket) -> None:
        try:
            head, rest = self._head(client)
            if not head:
                return None
            request = requests.read(head)
        except (requests.BadRequest, TimeoutError) as bad:
            late = isinstance(bad, TimeoutError)
            why = "its head did not come in time" if late else str(bad)
            self._record.begin("", 0).end(f"not a request that can be sent on: {why}", refused=True)
            return _refuse(client, 408 if late else 400, f"This request is not sent on: {why}.")
        try:
            made = link(
                request.host,
                request.port,
                allow=self._allow,
                record=self._record,
                timeout_s=self._timeouts.connect_s,
                exceptions=self._exceptions,
                resolver=self._resolver,
            )
        except ToolRefused as refused:
            return _refuse(client, 403, f"Refused: {refused.message}")
        except ToolFailed as failed:
            return _refuse(client, 502, failed.message)
        return self._connected(client, made, request, rest)

    def _connected(self, client: socket.socket, made: Link, request: requests.Request, rest: bytes) -> None:
        with self._lock:
            self._open.add(made.sock)
        why, refused = "the connection broke off", False
        try:
            if self._ended.is_set():
                return
            upward = _filter(request)
            if request.tunnel:
                client.sendall(_ESTABLISHED)
            else:
                made.sock.sendall(request.head)
                made.entry.count(sent=len(request.head))
            why = relay(
                client,
                made.sock,
                made.entry,
                upward=upward,
                first=rest,
                idle_s=self._timeouts.idle_s,
                ended=self._ended.is_set,
                one_answer=not request.tunnel,
            )
            _hang_up(client)
        except (ToolRefused, requests.BadRequest) as error:
            why, refused = str(error), True
        finally:
            made.entry.end(why, refused=refused)
            with self._lock:
                self._open.discard(made.sock)
            made.sock.close()

    def _head(self, client: socket.socket) -> tuple[bytes, bytes]:
        """A request's head with its empty line, and what came behind it; (b"", b"") of who says nothing at all.

        Raises:
            BadRequest, TimeoutError, OSError
        """
        deadline_s = time.monotonic() + self._timeouts.head_s
        said = bytearray()
        end = -1
        while end < 0:
            if len(said) > requests.HEAD_MAX:
                raise requests.BadRequest("its head is too long")
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            client.settimeout(left_s)
            part = client.recv(requests.HEAD_MAX)
            if not part:
                if not said:
                    return b"", b""
                raise requests.BadRequest("its head is cut off")
            seen = max(0, len(said) - 3)
            said += part
            end = said.find(b"\r\n\r\n", seen)
        return bytes(said[: end + 4]), bytes(said[end + 4 :])


def _filter(request: requests.Request) -> Filter:
    if request.tunnel:
        return Hello(request.host, needed=request.port == 443)
    return Chunked() if request.body_bytes is None else Length(request.body_bytes)


def _refuse(client: socket.socket, status: int, why: str) -> None:
    """Answers, and hangs up."""
    text = f"{why}\n".encode()
    lines = [
        f"HTTP/1.1 {status} {_STATUS[status]}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(text)}",
        "Connection: close",
        "",
        "",
    ]
    client.settimeout(_DRAIN_S)
    client.sendall("\r\n".join(lines).encode() + text)
    _hang_up(client)


def _hang_up(client: socket.socket) -> None:
    """Reads on for a moment, so that the answer is not lost to what was not read."""
    client.settimeout(_DRAIN_S)
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_WR)
    deadline_s = time.monotonic() + _DRAIN_S
    with contextlib.suppress(TimeoutError):
        while time.monotonic() < deadline_s and client.recv(65536):
            pass
