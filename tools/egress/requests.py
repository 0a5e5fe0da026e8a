"""Heads of requests to the proxy, read strictly (RFC 9112): what two readers could understand differently is refused.

CONNECT takes `host:port`; any other method an absolute `http://` target, which is sent on in origin form with a Host that
follows from it. Header fields that concern one connection only do not go on.
"""

import re
from dataclasses import dataclass

from tools.egress.allowlist import host_of
from tools.errors import ToolRefused

HEAD_MAX = 32 * 1024
_FIELDS_MAX = 100

_LINE = re.compile(r"([A-Z][A-Z-]{0,30}) ([!-~]{1,8192}) HTTP/1\.([01])")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/?#\\%]+)(?::([0-9]{1,5}))?")
_TARGET = re.compile(r"http://([^/?#]*)(/[^#]*|\?[^#]*|)", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HOP = frozenset(["connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"])
_FRAMING = frozenset(["content-length", "expect", "host", "transfer-encoding"])


class BadRequest(Exception):
    """It is not clear what is asked for; `str` says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """host, port: where it goes; tunnel: CONNECT; head: what is sent there first, b"" for a tunnel; body_bytes: how
    long its body is, None where it is chunked."""

    host: str
    port: int
    tunnel: bool = False
    head: bytes = b""
    body_bytes: int | None = 0


def read(head: bytes) -> Request:
    """Reads a head that ends with its empty line.

    Raises:
        BadRequest
    """
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    asked = _LINE.fullmatch(first)
    if asked is None:
        raise BadRequest("the request line is not one")
    method, target, minor = asked.groups()
    fields = _fields(lines)
    if method == "CONNECT":
        return _tunnel(target, fields)
    return _forwarded(method, target, minor, fields)


def _fields(lines: list[str]) -> list[tuple[str, str]]:
    if len(lines) > _FIELDS_MAX:
        raise BadRequest("it has too many header fields")
    found = []
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None or _UNPRINTABLE.search(line):
            raise BadRequest("a header field is malformed")
        found.append((field[1], field[2]))
    return found


def _only(fields: list[tuple[str, str]], name: str) -> str | None:
    values = [value for key, value in fields if key.lower() == name]
    if len(values) > 1:
        raise BadRequest(f"it has {name} more than once")
    return values[0] if values else None


def _place(authority: str, default: int | None) -> tuple[str, int]:
    found = _AUTHORITY.fullmatch(authority)
    if found is None or (found[2] is None and default is None):
        raise BadRequest("its target is not host:port")
    port = int(found[2]) if found[2] is not None else default
    if port is None or not 1 <= port <= 65535:
        raise BadRequest("its target has no port between 1 and 65535")
    try:
        return host_of(found[1]), port
    except ToolRefused as error:
        raise BadRequest(error.message) from error


def _agrees(fields: list[tuple[str, str]], place: tuple[str, int]) -> None:
    """Its Host, where it has one, says the same as its target."""
    host = _only(fields, "host")
    if host and _place(host, place[1]) != place:
        raise BadRequest("its Host is not its target")


def _tunnel(target: str, fields: list[tuple[str, str]]) -> Request:
    place = _place(target, None)
    _agrees(fields, place)
    if any(name.lower() in ("content-length", "transfer-encoding") for name, _ in fields):
        raise BadRequest("a CONNECT has no body")
    return Request(host=place[0], port=place[1], tunnel=True)


def _forwarded(method: str, target: str, minor: str, fields: list[tuple[str, str]]) -> Request:
    found = _TARGET.fullmatch(target)
    if found is None:
        raise BadRequest("its target is not an http:// address; https goes by CONNECT")
    host, port = _place(found[1], 80)
    _agrees(fields, (host, port))
    body_bytes = _body(minor, fields)
    named = {
        word.strip().lower() for name, value in fields if name.lower() == "connection" for word in value.split(",")
    }
    if named & _FRAMING:
        raise BadRequest("its Connection field names one that it may not name")
    shown = f"[{host}]" if ":" in host else host
    path = found[2] if found[2].startswith("/") else f"/{found[2]}"
    lines = [f"{method} {path} HTTP/1.1", f"Host: {shown}" + (f":{port}" if port != 80 else ""), "Connection: close"]
    lines += [
        f"{name}: {value}"
        for name, value in fields
        if name.lower() not in _HOP and name.lower() not in named and not name.lower().startswith("proxy-")
    ]
    if body_bytes is None:
        lines.append("Transfer-Encoding: chunked")
    head = "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")
    return Request(host=host, port=port, head=head, body_bytes=body_bytes)


def _body(minor: str, fields: list[tuple[str, str]]) -> int | None:
    length, coding = _only(fields, "content-length"), _only(fields, "transfer-encoding")
    if coding is not None:
        if length is not None or minor == "0" or coding.lower() != "chunked":
            raise BadRequest("it is not clear where its body ends")
        return None
    if length is None:
        return 0
    if not re.fullmatch(r"[0-9]{1,15}", length):
        raise BadRequest("its Content-Length is no number")
    return int(length)
