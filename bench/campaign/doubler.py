"""Doubles every message: what anybody pushes to a queue is pushed a second time, and some a third time, much later.

It watches Redis itself (MONITOR), so that it knows nothing of who publishes and how.
"""

import heapq
import random
import re
import socket
import threading
import time
from contextlib import suppress
from urllib.parse import unquote, urlsplit

STALE_SHARE = 0.2
_LINE = re.compile(rb'^\+[\d.]+ \[\d+ ([^\]]+)\] "(LPUSH|RPUSH)" "((?:[^"\\]|\\.)*)" (.*)$', re.IGNORECASE | re.DOTALL)
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


class Doubler:
    """Runs in two threads until `stop()`; outlives whatever happens to Redis. stale_after_s: of the latest copies."""

    def __init__(self, url: str, queues: set[str], seed: int, *, stale_after_s: float) -> None:
        place = urlsplit(url)
        self._where = (place.hostname or "127.0.0.1", place.port or 6379)
        self._password = unquote(place.password or "").encode()
        self._queues = {queue.encode() for queue in queues}
        self._random = random.Random(seed)
        self._stale_after_s = stale_after_s
        self._stop, self._finishing = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._due: list[tuple[float, bytes, bytes, bool]] = []  # the last: a copy that comes much later
        self._ours: set[bytes] = set()  # client addresses of our own pushes
        self.seen = self.doubled = self.stale = 0
        for run in (self._watch, self._push):
            threading.Thread(target=run, name="doubler", daemon=True).start()

    def finish(self) -> None:
        """New messages are doubled no more; copies that are due later still go out."""
        self._finishing.set()

    def stop(self) -> None:
        self._stop.set()

    @property
    def waiting(self) -> int:
        return len(self._due)

    def _watch(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError), self._connect() as connection, connection.makefile("rb") as lines:
                connection.sendall(_command(b"MONITOR"))
                while not self._stop.is_set():
                    line = lines.readline()
                    if not line:
                        break
                    self._take(line.rstrip(b"\r\n"))
            self._stop.wait(0.05)

    def _take(self, line: bytes) -> None:
        found = _LINE.match(line)
        if found is None or found[1] in self._ours or self._finishing.is_set():
            return
        queue = _unescaped(found[3])
        if queue not in self._queues:
            return
        now = time.monotonic()
        for word in _WORD.findall(found[4]):
            body = _unescaped(word)
            with self._lock:
                self.seen += 1
                heapq.heappush(self._due, (now, queue, body, False))
                if self._random.random() < STALE_SHARE:
                    heapq.heappush(self._due, (now + self._random.uniform(1.0, self._stale_after_s), queue, body, True))

    def _push(self) -> None:
        connection: socket.socket | None = None
        while not self._stop.is_set():
            with self._lock:
                one = self._due[0] if self._due and self._due[0][0] <= time.monotonic() else None
                if one is not None:
                    heapq.heappop(self._due)
            if one is None:
                self._stop.wait(0.002)
                continue
            try:
                if connection is None:
                    connection = self._connect()
                    self._ours.add("{}:{}".format(*connection.getsockname()).encode())
                connection.sendall(_command(b"LPUSH", one[1], one[2]))
                connection.recv(4096)
                if one[3]:
                    self.stale += 1
                else:
                    self.doubled += 1
            except OSError:
                if connection is not None:
                    connection.close()
                connection = None
                self._stop.wait(0.05)
        if connection is not None:
            connection.close()

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(self._where, timeout=30)
        if self._password:
            connection.sendall(_command(b"AUTH", self._password))
            if not connection.recv(4096).startswith(b"+OK"):
                connection.close()
                raise OSError("Redis refused the password")
        return connection


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def _unescaped(text: bytes) -> bytes:
    def plain(match: re.Match[bytes]) -> bytes:
        what = match[1]
        if len(what) == 3:
            return bytes([int(what[1:], 16)])
        return _PLAIN.get(what, what)

    return _ESCAPE.sub(plain, text)
