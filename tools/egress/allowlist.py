"""Lists of hosts that may be reached: `host`, `*.host` (every name below it), each with `:port`.

A pattern without a port stands for 80 and 443. Names are compared as the wire has them: lower case, IDNA (UTS 46,
non-transitional), without the dot at the end. An address is a host only as it is usually written: what a resolver would
read as an address in another way (`0x7f.1`, `2130706433`, `127.1`) is refused.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

import idna

from tools.errors import ToolRefused

PORTS = frozenset({80, 443})
PATTERNS_MAX = 50

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[0-9]{1,5}")


def host_of(name: str) -> str:
    """`name` as it is compared: lower case, ASCII, without a dot at the end; an address in its usual form, without
    brackets.

    Raises:
        ToolRefused: it is no host name and no address.
    """
    if name.startswith("[") and name.endswith("]"):
        return _address(name[1:-1], name)
    if ":" in name:
        return _address(name, name)
    try:
        wire = name.lower() if name.isascii() else idna.encode(name, uts46=True, transitional=False).decode().lower()
    except UnicodeError as error:
        raise ToolRefused(f"{name[:100]!r} is no host name.") from error
    wire = wire.removesuffix(".")
    labels = wire.split(".")
    if len(wire) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ToolRefused(f"{name[:100]!r} is no host name.")
    if _NUMBER.fullmatch(labels[-1]):
        return _address(wire, name)
    return wire


def _address(text: str, given: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise ToolRefused(f"{given[:100]!r} is no host name and no address.") from error
    if getattr(address, "scope_id", None):
        raise ToolRefused(f"{given[:100]!r} names a network interface.")
    return str(address)


@dataclass(frozen=True, slots=True, order=True)
class Pattern:
    """host: as of `host_of`; below: every name below it, and not itself; port: None for 80 and 443."""

    host: str
    below: bool = False
    port: int | None = None

    @property
    def ports(self) -> frozenset[int]:
        return PORTS if self.port is None else frozenset({self.port})

    def covers(self, host: str, *, below: bool = False) -> bool:
        """Are `host`, or all names below it, among this pattern's names?"""
        if self.below:
            return host.endswith(f".{self.host}") or (below and host == self.host)
        return host == self.host and not below

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return ("*." if self.below else "") + host + ("" if self.port is None else f":{self.port}")


def pattern_of(text: str) -> Pattern:
    """Reads `host`, `*.host`, `host:port`, `*.host:port`, `[v6]`, `[v6]:port`.

    Raises:
        ToolRefused: it is none of these, or a `*.` over a whole top-level domain or an address.
    """
    name, port = text, None
    if "/" in text:
        raise ToolRefused(f"{text[:100]!r} is more than a host: leave out what stands before and after its name.")
    if not (text.startswith("[") and text.endswith("]")) and ":" in text:
        name, _, number = text.rpartition(":")
        if ":" in name and not name.startswith("["):
            raise ToolRefused(f"{text[:100]!r}: an IPv6 address stands in brackets.")
        if not _PORT.fullmatch(number) or not 1 <= int(number) <= 65535:
            raise ToolRefused(f"{text[:100]!r} names no port between 1 and 65535.")
        port = int(number)
    below = name.startswith("*.")
    host = host_of(name[2:] if below else name)
    if below and ("." not in host or _is_address(host)):
        raise ToolRefused(f"{text[:100]!r} is too wide: *. stands before a name with at least one dot.")
    return Pattern(host, below, port)


def _is_address(host: str) -> bool:
    return ":" in host or _NUMBER.fullmatch(host.rpartition(".")[2]) is not None


@dataclass(frozen=True, slots=True)
class Allowlist:
    """Which hosts and ports may be reached. An empty list allows nothing."""

    patterns: tuple[Pattern, ...] = ()

    @classmethod
    def parse(cls, patterns: Iterable[str]) -> "Allowlist":
        """Of patterns as `pattern_of` reads them.

        Raises:
            ToolRefused: one is wrong, or there are too many.
        """
        found = tuple(sorted({pattern_of(text) for text in patterns}, key=str))
        if len(found) > PATTERNS_MAX:
            raise ToolRefused(f"At most {PATTERNS_MAX} hosts may be named.")
        return cls(found)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def words(self) -> list[str]:
        """The patterns as text, sorted."""
        return [str(pattern) for pattern in self.patterns]

    def allows(self, host: str, port: int) -> bool:
        """May `host` be reached at `port`? What is no host name may not."""
        try:
            wire = host_of(host)
        except ToolRefused:
            return False
        return any(port in pattern.ports and pattern.covers(wire) for pattern in self.patterns)

    def within(self, other: "Allowlist") -> "Allowlist":
        """What both allow."""
        return Allowlist(tuple(sorted({p for one in self.patterns for p in _common(one, other)}, key=str)))


def _common(one: Pattern, other: Allowlist) -> Iterable[Pattern]:
    for two in other.patterns:
        ports = one.ports & two.ports
        if not ports:
            continue
        if two.covers(one.host, below=one.below):
            narrow = one
        elif one.covers(two.host, below=two.below):
            narrow = two
        else:
            continue
        if ports == PORTS:
            yield Pattern(narrow.host, narrow.below)
        else:
            yield from (Pattern(narrow.host, narrow.below, port) for port in ports)
