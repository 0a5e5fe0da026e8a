"""The bytes below one model call: a connection of its own, a deadline that holds, a bounded answer, chosen headers.

httpx2's timeouts are for one read: an endpoint that sends a byte a second is never late. Here a watchdog shuts the
socket down at the deadline, wherever the call stands, and every read is counted.
"""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import httpx2

from agents.llm.errors import AnswerTooLarge, CallCancelled, EndpointTimeout

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
CANCEL_POLL_S = 0.5
# What goes out. All else stays here: the client's platform telemetry, and what it takes from OPENAI_* variables.
SENT_HEADERS = frozenset({"host", "accept", "content-type", "content-length", "transfer-encoding"})


class Deadline:
    """Ends one call on time, or when `cancelled()` says so. A context: its thread lives as long as the call."""

    def __init__(self, seconds: float, cancelled: Callable[[], bool]) -> None:
        self.seconds = seconds
        self._ends_at = time.monotonic() + seconds
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._stopped = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch_clock, name="llm-deadline", daemon=True)

    def __enter__(self) -> "Deadline":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._socket = None

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._ends_at

    @property
    def over(self) -> bool:
        """Is the call to end now, finished or not?"""
        return self.passed or self._stopped

    def error(self) -> EndpointTimeout | CallCancelled:
        if self._stopped:
            return CallCancelled("The call was cancelled.")
        return EndpointTimeout(f"The endpoint did not finish within {self.seconds:g} s.")

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """httpcore's `trace` extension: takes the socket as soon as there is one, before TLS and before any answer."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            stream = info.get("return_value")
            found = stream.get_extra_info("socket") if stream is not None else None
            with self._lock:
                self._socket = found if isinstance(found, socket.socket) else None
            if self.over:
                self._shut_down()

    def _watch_clock(self) -> None:
        while not self._done.wait(max(0.0, min(CANCEL_POLL_S, self._ends_at - time.monotonic()))):
            self._stopped = not self.passed and self._asked_to_stop()
            if self.over:
                self._shut_down()
                return

    def _asked_to_stop(self) -> bool:
        try:
            return self._cancelled()
        except Exception:
            # This thread must live: without it the deadline would not hold.
            log.exception("llm.cancel_check_failed")
            return False

    def _shut_down(self) -> None:
        with self._lock:
            if self._socket is None:
                return
            try:
                # shutdown, not close: it wakes the thread that reads, and leaves the descriptor to its owner. An
                # SSLSocket's own shutdown would forget its TLS state under the reader's feet: the plain one is meant.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                return


class BoundedStream(httpx2.SyncByteStream):
    """A response body that stops at the deadline and at `limit_bytes`."""

    def __init__(self, inner: httpx2.SyncByteStream, deadline: Deadline, limit_bytes: int) -> None:
        self._inner, self._deadline, self._limit_bytes = inner, deadline, limit_bytes

    def __iter__(self) -> Iterator[bytes]:
        seen = 0
        for chunk in self._inner:
            seen += len(chunk)
            if seen > self._limit_bytes:
                raise AnswerTooLarge(f"The endpoint's answer is larger than {self._limit_bytes} bytes.")
            if self._deadline.over:
                raise self._deadline.error()
            yield chunk

    def close(self) -> None:
        self._inner.close()


class Transport(httpx2.BaseTransport):
    """One call's transport. Nothing of the environment reaches it: no proxy, no certificate file, no header."""

    def __init__(self, api_key: str, deadline: Deadline, limit_bytes: int) -> None:
        self._api_key, self._deadline, self._limit_bytes = api_key, deadline, limit_bytes
        # A connection a call: one kept alive may be closed by the far end just when it is used again, and a request
        # that failed so is not known to be unsent.
        limits = httpx2.Limits(max_connections=1, max_keepalive_connections=0)
        self._inner = httpx2.HTTPTransport(verify=_tls(), trust_env=False, limits=limits, retries=0)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        for name in list(request.headers):
            if name.lower() not in SENT_HEADERS:
                del request.headers[name]
        request.headers["authorization"] = f"Bearer {self._api_key or 'none'}"
        request.headers["user-agent"] = "countersign"
        request.headers["accept-encoding"] = "identity"  # so that the bytes counted are the bytes decoded
        request.headers["connection"] = "close"
        request.extensions = {**request.extensions, "trace": self._deadline.watch}
        response = self._inner.handle_request(request)
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding not in ("", "identity"):
            response.close()
            raise httpx2.DecodingError(f"The endpoint compressed its answer ({encoding}) unasked.", request=request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = BoundedStream(response.stream, self._deadline, self._limit_bytes)
        return response

    def close(self) -> None:
        self._inner.close()


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)
