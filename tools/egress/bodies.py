"""Filters of what goes towards the host: bodies that end where they say, and a TLS hello for the host that was asked for.

Each has `feed(data)`, which gives what may go on, and `over`: nothing more goes on.
"""

import re
import struct
from typing import Protocol

from tools.egress.allowlist import host_of
from tools.egress.requests import BadRequest
from tools.errors import ToolRefused

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})(?:[ \t]*;[^\r\n\x00]*)?")
_LINE_MAX = 1024
_TRAILERS_MAX = 8192
_HELLO_MAX = 32 * 1024
_RECORDS_MAX = 32
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME = 0x16, 1, 0


class Filter(Protocol):
    """See the module."""

    over: bool

    def feed(self, data: bytes) -> bytes:
        """What may go on. Raises BadRequest, ToolRefused."""
        ...


class Length:
    """A body of so many bytes; what comes behind it stays here."""

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes
        self.over = not size_bytes

    def feed(self, data: bytes) -> bytes:
        """See `Filter`."""
        taken = data[: self._left]
        self._left -= len(taken)
        self.over = not self._left
        return taken


class Chunked:
    """A chunked body, written anew: no extensions, no trailers, nothing behind it."""

    def __init__(self) -> None:
        self.over = False
        self._held = bytearray()
        self._place = 0  # in it, of what is not judged yet
        self._left = 0  # of the chunk's bytes
        self._ending = False  # the line end behind a chunk is due
        self._last = False  # the chunk of size 0 came; trailers are due
        self._trailers = 0

    def feed(self, data: bytes) -> bytes:
        """See `Filter`."""
        self._held += data
        made = bytearray()
        while self._place < len(self._held) and not self.over:
            if self._left:
                part = self._held[self._place : self._place + self._left]
                self._place += len(part)
                self._left -= len(part)
                self._ending = not self._left
                made += part
                continue
            line = self._line()
            if line is None:
                break
            made += self._judged(line)
        del self._held[: self._place]
        self._place = 0
        return bytes(made)

    def _line(self) -> bytes | None:
        end = self._held.find(b"\r\n", self._place, self._place + _LINE_MAX + 2)
        if end < 0:
            if len(self._held) - self._place > _LINE_MAX:
                raise BadRequest("a line of its body is too long")
            return None
        line = bytes(self._held[self._place : end])
        self._place = end + 2
        return line

    def _judged(self, line: bytes) -> bytes:
        if self._ending:
            if line:
                raise BadRequest("a chunk is longer than it says")
            self._ending = False
            return b"\r\n"
        if self._last:
            self._trailers += len(line)
            if self._trailers > _TRAILERS_MAX:
                raise BadRequest("its trailers are too long")
            self.over = not line
            return b"\r\n" if self.over else b""
        size = _SIZE.fullmatch(line)
        if size is None:
            raise BadRequest("a chunk has no size")
        self._left = int(size[1], 16)
        self._last = not self._left
        return b"%x\r\n" % self._left


class Hello:
    """A tunnel whose TLS, if it is TLS, names the host that the tunnel was asked for. needed: it must be TLS."""

    over = False

    def __init__(self, host: str, *, needed: bool) -> None:
        self._host = host
        self._needed = needed
        self._held: bytes | None = b""

    def feed(self, data: bytes) -> bytes:
        """See `Filter`. Holds what comes until the hello is whole."""
        if self._held is None:
            return data
        self._held += data
        if self._held[0] != _HANDSHAKE:
            if self._needed:
                raise ToolRefused("What was sent to port 443 is not TLS.")
        else:
            try:
                name = server_name(self._held)
            except Incomplete:
                if len(self._held) > _HELLO_MAX:
                    raise ToolRefused("Its TLS hello is too long.") from None
                return b""
            if name is not None and _comparable(name) != self._host:
                raise ToolRefused(f"Its TLS names {name[:100]!r}, not {self._host}.")
        whole, self._held = self._held, None
        return whole


def _comparable(name: str) -> str:
    try:
        return host_of(name)
    except ToolRefused:
        return ""


class Incomplete(Exception):
    """More bytes are needed."""


def server_name(data: bytes) -> str | None:
    """The host name in a TLS ClientHello (RFC 8446, RFC 6066), None where it has none. `data` begins with its record.

    Raises:
        Incomplete: it goes on behind `data`.
        ToolRefused: it is malformed.
    """
    hello = _handshake(data)
    try:
        place = 4 + 2 + 32
        place += 1 + hello[place]
        place += 2 + struct.unpack_from(">H", hello, place)[0]
        place += 1 + hello[place]
        if place == len(hello):
            return None
        end = place + 2 + struct.unpack_from(">H", hello, place)[0]
        place += 2
        names = []
        while place < end:
            kind, size = struct.unpack_from(">HH", hello, place)
            place += 4
            if kind == _SERVER_NAME:
                names.append(_name(hello[place : place + size]))
            place += size
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ToolRefused("Its TLS hello is malformed.") from error
    if place != end or end != len(hello) or len(names) > 1:
        raise ToolRefused("Its TLS hello is malformed.")
    return names[0] if names else None


def _handshake(data: bytes) -> bytes:
    """The first handshake message, put together from its records."""
    message, place, records = b"", 0, 0
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4]):
        if len(data) < place + 5:
            raise Incomplete
        kind, major, _, size = struct.unpack_from(">BBBH", data, place)
        records += 1
        if kind != _HANDSHAKE or major != 3 or not 0 < size <= 1 << 14 or records > _RECORDS_MAX:
            raise ToolRefused("Its TLS hello is malformed.")
        if len(data) < place + 5 + size:
            raise Incomplete
        message += data[place + 5 : place + 5 + size]
        place += 5 + size
        if message[0] != _CLIENT_HELLO:
            raise ToolRefused("Its TLS does not begin with a hello.")
    if len(message) != 4 + int.from_bytes(message[1:4]):
        raise ToolRefused("Its TLS hello is malformed.")
    return message


def _name(extension: bytes) -> str:
    listed, kind, size = struct.unpack_from(">HBH", extension)
    if kind != 0 or listed != len(extension) - 2 or size != len(extension) - 5:
        raise struct.error("a list of one host name is expected")
    return extension[5:].decode("ascii")
