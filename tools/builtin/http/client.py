"""One HTTP exchange after the other, each connection by `tools.egress`: bounded in time, size and redirects.

The protocol is httpcore's; what it is given to speak over is a socket that was resolved and judged there. Bodies are
decoded here, so that a small answer cannot grow beyond the bound (a decompression bomb).
"""

import select
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import certifi
import httpcore2
from httpcore2 import NetworkBackend, NetworkStream

from tools.builtin.http.address import Url, redirected
from tools.egress.connect import Allowlist, Connection, Connections, link
from tools.errors import ToolError, ToolFailed, ToolRefused

USER_AGENT = "countersign-http/1"
_READ_BYTES = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS_MAX = 100
_ENDED = "the time was up"


class TimeUp(ToolFailed):
    """The call's time was up before the answer was whole."""

    code = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """url: of the last hop; headers: names in lower case; body: decoded, at most so many bytes; cut: there was more;
    hops: the addresses that led here, the first one included, the last one not."""

    url: Url
    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool
    hops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """method, headers, content: of the first request; private: headers that go to the first origin alone and by https;
    keep: is the body of an answer with these headers wanted; redirects: how many are followed."""

    method: str
    headers: Mapping[str, str]
    content: bytes = b""
    private: Mapping[str, str] | None = None
    keep: Callable[[Mapping[str, str]], bool] = lambda headers: True
    redirects: int = 5
    body_max_bytes: int = 2 * 1024**2


class Client:
    """allow: the hosts; record: gets every connection; reach: is asked about every hop, and raises; deadline_s: a
    `time.monotonic()` reading; cancelled: is asked while an answer comes."""

    def __init__(
        self,
        *,
        allow: Allowlist,
        record: Connections,
        reach: Callable[[str], object],
        deadline_s: float,
        cancelled: Callable[[], bool],
    ) -> None:
        self._allow = allow
        self._record = record
        self._reach = reach
        self._deadline_s = deadline_s
        self._cancelled = cancelled
        self._tls = tls_context()

    def send(self, url: Url, ask: Ask) -> Answer:
        """The answer, after the redirects that may be followed.

        Raises:
            ToolRefused: a hop leads to a host that may not be reached, or to no address.
            TimeUp, ToolFailed
        """
        hops: list[str] = []
        first = url.origin
        while True:
            private = ask.private if url.origin == first and url.scheme == "https" else None
            answer = self._exchange(url, ask, {**ask.headers, **(private or {})}, tuple(hops))
            location = answer.headers.get("location", "")
            if answer.status not in _REDIRECTS or not location or ask.redirects == 0:
                return answer
            if len(hops) >= ask.redirects:
                raise ToolFailed(f"More than {ask.redirects} redirects; the last one from {url.host}.")
            hops.append(str(url))
            url = redirected(url, location)

    def _exchange(self, url: Url, ask: Ask, headers: Mapping[str, str], hops: tuple[str, ...]) -> Answer:
        self._reach(str(url))
        wire = [(b"Host", url.place.encode()), *((k.encode(), v.encode("latin-1")) for k, v in headers.items())]
        if ask.content or ask.method == "POST":
            wire.append((b"Content-Length", str(len(ask.content)).encode()))
        target = httpcore2.URL(
            scheme=url.scheme.encode(), host=url.host.encode(), port=url.port, target=url.target.encode()
        )
        backend = _Egress(self._allow, self._record, self._deadline_s, self._cancelled)
        try:
            with httpcore2.HTTPConnection(
                httpcore2.Origin(url.scheme.encode(), url.host.encode(), url.port),
                ssl_context=self._tls,
                network_backend=backend,
            ) as connection:
                response = connection.handle_request(
                    httpcore2.Request(ask.method, target, headers=wire, content=ask.content)
                )
                found = _headers(response.headers)
                wanted = ask.method != "HEAD" and response.status not in _REDIRECTS and ask.keep(found)
                body, cut = _body(response.iter_stream(), found, ask.body_max_bytes) if wanted else (b"", False)
        except ToolError as error:
            backend.end(error.message)
            raise
        except (httpcore2.TimeoutException, TimeoutError):
            backend.end(_ENDED)
            raise TimeUp(f"{url.host} did not answer in time.", transient=True) from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError, zlib.error, ValueError) as error:
            backend.end(str(error))
            raise ToolFailed(
                f"{url.host}: {_why(error)}", transient=isinstance(error, httpcore2.NetworkError)
            ) from None
        finally:
            backend.end()
        return Answer(url=url, status=response.status, headers=found, body=body, cut=cut, hops=hops)


def tls_context() -> ssl.SSLContext:
    """Trusts the system's authorities (or SSL_CERT_FILE's), and where it has none, those of certifi."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context


def _why(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}."
        cause = cause.__cause__ or cause.__context__
    text = str(error).strip()
    if isinstance(error, zlib.error):
        return "the body is not compressed as its headers say."
    return f"{text[:200]}." if text else "the connection ended too early."


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The first of each name; what is no visible ASCII is left out."""
    found: dict[str, str] = {}
    for name, value in list(raw)[:_HEADERS_MAX]:
        text = "".join(chr(byte) for byte in value if byte == 9 or 32 <= byte < 127)
        found.setdefault(name.decode("latin-1").lower(), text[:4000])
    return found


def _body(chunks: Iterable[bytes], headers: Mapping[str, str], limit_bytes: int) -> tuple[bytes, bool]:
    """(the decoded body up to the limit, whether there was more). Reading ends at the limit.

    Raises:
        ToolFailed: it is encoded in a way that was not asked for.
    """
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise ToolFailed(f"The body is encoded as {coding[:40]}, which was not asked for.")
    decode = _inflate(coding) if coding not in ("", "identity") else None
    made = bytearray()
    for chunk in chunks:
        room = limit_bytes + 1 - len(made)
        made += decode(chunk, room) if decode is not None else chunk[:room]
        if len(made) > limit_bytes:
            return bytes(made[:limit_bytes]), True
    return bytes(made), False


def _inflate(coding: str) -> Callable[[bytes, int], bytes]:
    """A decoder that gives at most so many bytes a call; what it holds back is dropped, since the caller stops there."""
    decoder = zlib.decompressobj(47 if coding.endswith("gzip") else zlib.MAX_WBITS)
    begun = False

    def decode(chunk: bytes, room: int) -> bytes:
        nonlocal decoder, begun
        if not begun and coding == "deflate" and chunk and chunk[0] & 0x0F != 8:
            decoder = zlib.decompressobj(-zlib.MAX_WBITS)  # without the header that the standard asks for
        begun = begun or bool(chunk)
        return decoder.decompress(chunk, room)

    return decode


class _Egress(NetworkBackend):
    """Connects by `tools.egress`, and ends the record's entry."""

    def __init__(self, allow: Allowlist, record: Connections, deadline_s: float, cancelled: Callable[[], bool]) -> None:
        self._allow = allow
        self._record = record
        self._deadline_s = deadline_s
        self._cancelled = cancelled
        self._entry: Connection | None = None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> NetworkStream:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeUp(f"There was no time left for {host}.", transient=True)
        made = link(host, port, allow=self._allow, record=self._record, timeout_s=left_s)
        self._entry = made.entry
        return _Stream(made.sock, made.entry, self._deadline_s, self._cancelled)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> NetworkStream:
        raise ToolRefused("There are no unix sockets here.")

    def end(self, why: str = "") -> None:
        if self._entry is not None:
            self._entry.end(why)


class _Stream(NetworkStream):
    """A socket whose every wait ends with the call's deadline, or soon after it is cancelled."""

    def __init__(self, sock: Any, entry: Connection, deadline_s: float, cancelled: Callable[[], bool]) -> None:
        self._sock = sock
        self._entry = entry
        self._deadline_s = deadline_s
        self._cancelled = cancelled

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data: bytes = self._waited(lambda: self._sock.recv(min(max_bytes, _READ_BYTES)))
        self._entry.count(received=len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        done = 0
        while done < len(buffer):
            sent = self._waited(partial(self._sock.send, buffer[done : done + _READ_BYTES]))
            self._entry.count(sent=sent)
            done += sent

    def _waited(self, act: Callable[[], Any]) -> Any:
        while True:
            left_s = self._deadline_s - time.monotonic()
            if left_s <= 0:
                raise httpcore2.ReadTimeout(_ENDED)
            if self._cancelled():
                raise ToolFailed("The call was cancelled.", error_code="cancelled")
            self._sock.settimeout(min(left_s, 0.5))
            try:
                return act()
            except TimeoutError:
                continue
            except OSError as error:
                raise httpcore2.ReadError(error.strerror or str(error)) from error

    def close(self) -> None:
        self._sock.close()
        self._entry.end()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        self._sock.settimeout(max(0.1, self._deadline_s - time.monotonic()))
        try:
            sock = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname, do_handshake_on_connect=False)
            self._handshake(sock)
        except TimeoutError as error:
            self.close()
            raise httpcore2.ConnectTimeout(_ENDED) from error
        except OSError as error:
            self.close()
            raise httpcore2.ConnectError(str(error)) from error
        return _Stream(sock, self._entry, self._deadline_s, self._cancelled)

    def _handshake(self, sock: ssl.SSLSocket) -> None:
        """Bytes that trickle in do not make it longer than the deadline."""
        sock.setblocking(False)
        while True:
            try:
                sock.do_handshake()
                return
            except ssl.SSLWantReadError:
                self._wait(sock, reading=True)
            except ssl.SSLWantWriteError:
                self._wait(sock, reading=False)

    def _wait(self, sock: ssl.SSLSocket, *, reading: bool) -> None:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0 or self._cancelled():
            raise TimeoutError(_ENDED)
        poll = select.poll()
        poll.register(sock, select.POLLIN if reading else select.POLLOUT)
        poll.poll(min(left_s, 0.5) * 1000)

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object" and isinstance(self._sock, ssl.SSLSocket):
            return self._sock._sslobj  # type: ignore[attr-defined]
        return self._sock if info == "socket" else None
