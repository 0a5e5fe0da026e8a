"""Addresses that may be asked for, in one form only: what is judged is what is requested."""

import re
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from tools.egress.allowlist import host_of
from tools.errors import ToolRefused

URL_MAX = 2000
_PORTS = {"http": 80, "https": 443}
_SAFE = "%/:@!$&'()*+,;=~-._"
_UNFIT = re.compile(r"[\x00-\x20\x7f\\\u0080-\u00a0]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """scheme: http or https; host: as `tools.egress.allowlist.host_of` gives it; target: the path and query that are sent."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def place(self) -> str:
        """`host` or `host:port`, as a list of hosts names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}{self.target}"


def url_of(text: str) -> Url:
    """Reads an http or https address. A fragment is dropped.

    Raises:
        ToolRefused: it is something else, holds a login, or what readers may take for another address (white space,
            backslashes, control characters).
    """
    if len(text) > URL_MAX or _UNFIT.search(text):
        raise ToolRefused("An address has no spaces, backslashes or control characters.", url=text[:200])
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ToolRefused("This is no address that can be read.", url=text[:200]) from None
    if parts.scheme not in _PORTS or not text.lower().startswith(f"{parts.scheme}://") or not parts.netloc:
        raise ToolRefused("An address begins with https:// or http:// and names a host.", url=text[:200])
    if "@" in parts.netloc or "%" in parts.netloc:
        raise ToolRefused("An address holds no login; name a secret for that.", url=text[:200])
    hostname = f"[{parts.hostname}]" if parts.netloc.startswith("[") else parts.hostname
    if not hostname or port == 0:
        raise ToolRefused("An address names a host, and a port other than 0.", url=text[:200])
    target = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE + '?')}" if parts.query else "")
    return Url(scheme=parts.scheme, host=host_of(hostname), port=port or _PORTS[parts.scheme], target=target)


def redirected(before: Url, location: str) -> Url:
    """Where a `Location` leads.

    Raises:
        ToolRefused: to no address that may be asked for, or from https to http.
    """
    after = url_of(urljoin(str(before), location.strip(" \t")))
    if before.scheme == "https" and after.scheme == "http":
        raise ToolRefused(f"{before.host} redirects from https to http.", url=str(after))
    return after
