"""Bytes between two sockets, both ways, counted."""

import contextlib
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tools.egress.bodies import Filter
from tools.egress.record import Connection

_CHUNK = 64 * 1024
_HELD_MAX = 128 * 1024
_TICK_S = 0.5


@dataclass(slots=True, eq=False)
class _Way:
    """One direction. over: its source has ended, or has nothing more to say; closed: its sink knows."""

    source: socket.socket
    sink: socket.socket
    held: bytearray = field(default_factory=bytearray)
    over: bool = False
    closed: bool = False


def relay(
    client: socket.socket,
    host: socket.socket,
    entry: Connection,
    *,
    upward: Filter,
    first: bytes,
    idle_s: float,
    ended: Callable[[], bool],
    one_answer: bool,
) -> str:
    """Passes bytes on until both sides are done, nothing came for `idle_s`, or `ended()`; gives the reason if it is a
    bad one, else "". `first` goes to the filter `upward` before what the client sends. one_answer: it is over when the
    host has said all. A client that breaks off is no bad reason: programs end so.

    Raises:
        BadRequest, ToolRefused: of the filter.
    """
    up, down = _Way(client, host), _Way(host, client)
    for sock in (client, host):
        sock.setblocking(False)
    if first:
        up.held += upward.feed(first)
    up.over = upward.over
    heard_s = time.monotonic()
    while not (up.closed and down.closed) and not (one_answer and down.closed):
        if ended():
            return "the command ended"
        ready = _ready(up, down)
        if not ready:
            if time.monotonic() - heard_s > idle_s:
                return f"nothing came for {idle_s:g} s"
            continue
        heard_s = time.monotonic()
        for way, event in ready:
            try:
                if event == "read":
                    _read(way, upward if way is up else None, entry)
                else:
                    _write(way, entry, counts=way is up)
            except OSError:
                side = way.source if event == "read" else way.sink
                return "" if side is client else "the host broke the connection off"
        for way in (up, down):
            _finish(way, half=not one_answer)
    return ""


def _ready(up: _Way, down: _Way) -> list[tuple[_Way, str]]:
    poller = select.poll()
    wanted: dict[int, tuple[int, dict[int, tuple[_Way, str]]]] = {}
    for way in (up, down):
        if not way.over and len(way.held) < _HELD_MAX:
            _want(wanted, way.source, select.POLLIN, (way, "read"))
        if way.held:
            _want(wanted, way.sink, select.POLLOUT, (way, "write"))
    for number, (mask, _) in wanted.items():
        poller.register(number, mask)
    found = []
    for number, events in poller.poll(_TICK_S * 1000):
        for mask, action in wanted[number][1].items():
            if events & (mask | select.POLLHUP | select.POLLERR):
                found.append(action)
    return found


def _want(
    wanted: dict[int, tuple[int, dict[int, tuple[_Way, str]]]], sock: socket.socket, mask: int, act: tuple[_Way, str]
) -> None:
    before, actions = wanted.get(sock.fileno(), (0, {}))
    wanted[sock.fileno()] = (before | mask, {**actions, mask: act})


def _read(way: _Way, upward: Filter | None, entry: Connection) -> None:
    try:
        data = way.source.recv(_CHUNK)
    except BlockingIOError:
        return
    if not data:
        way.over = True
    elif upward is None:
        entry.count(received=len(data))
        way.held += data
    else:
        way.held += upward.feed(data)
        way.over = upward.over


def _write(way: _Way, entry: Connection, *, counts: bool) -> None:
    try:
        sent = way.sink.send(way.held)
    except BlockingIOError:
        return
    del way.held[:sent]
    if counts:
        entry.count(sent=sent)


def _finish(way: _Way, *, half: bool) -> None:
    """Tells the sink that its source has ended. half: ends each way by itself."""
    if way.over and not way.held and not way.closed:
        way.closed = True
        if half:
            with contextlib.suppress(OSError):
                way.sink.shutdown(socket.SHUT_WR)
