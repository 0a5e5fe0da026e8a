"""Which tools, agents, groups and hosts a handle's lists name. Pure."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

EVERYBODY = "*"
_HOST = re.compile(
    r"(\*\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*(:[1-9][0-9]{0,4})?"
)
HTTPS = 443


def fits(patterns: Iterable[str], name: str) -> bool:
    """Is `name` one of these? `*` in a pattern stands for any text, and alone for no name as well."""
    return any(pattern == EVERYBODY or (name and fnmatchcase(name, pattern)) for pattern in patterns)


def fits_group(patterns: Iterable[str], groups: Iterable[str]) -> bool:
    """Is one of these groups named, or everybody? A group's name is taken as it stands."""
    named = set(patterns)
    return EVERYBODY in named or bool(named & set(groups))


def fits_host(patterns: Iterable[str], host: str) -> bool:
    """Does the list name `host` (`name` or `name:port`, port 443 where none is given)? `*.name` is what lies below it,
    and not `name` itself. A `host` that is a pattern fits where everything that it stands for does."""
    name, port = _split(host)
    return any(_covers(*_split(pattern), name, port) for pattern in patterns)


def host_problem(pattern: str) -> str:
    """Why this is no host of a list, in words; "" where it is one."""
    if _HOST.fullmatch(pattern) and 0 < _split(pattern)[1] < 65_536:
        return ""
    return f"{pattern!r} is no host such as api.example.org, *.example.org or git.example.org:8443."


def _covers(name: str, port: int, other: str, other_port: int) -> bool:
    if port != other_port or not other:
        return False
    if name.startswith("*."):
        return other.endswith(name[1:]) and len(other) > len(name) - 1
    return name == other


def _split(host: str) -> tuple[str, int]:
    name, colon, port = host.strip().lower().rpartition(":")
    if not colon or not port.isdigit() or name.endswith(":"):
        return host.strip().lower().rstrip("."), HTTPS
    return name.rstrip("."), int(port)
