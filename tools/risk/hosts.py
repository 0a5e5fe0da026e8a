"""Which hosts a call asks to reach, as far as it says so."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tools.egress.allowlist import Allowlist, Pattern, host_of
from tools.errors import ToolRefused

REACHING = ("shell.", "http.")  # tools whose arguments name hosts, and secrets


def hosts_of(tool: str, arguments: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Patterns as of `tools.egress.allowlist`, sorted; () of a call that asks for no host, or of a tool whose remotes the
    repository's row says (git); None where it cannot be told.
    """
    try:
        if tool.startswith("shell."):
            return tuple(Allowlist.parse(arguments.get("network") or ()).words())
        if tool.startswith("http."):
            parts = urlsplit(arguments["url"])
            port = parts.port or {"http": 80, "https": 443}[parts.scheme]
            host = host_of(parts.hostname or "")
            first = str(Pattern(host, port=None if port in (80, 443) else port))
            return tuple(Allowlist.parse([first, *(arguments.get("redirect_hosts") or ())]).words())
    except (ToolRefused, ValueError, KeyError, TypeError, AttributeError):
        return None
    return ()
