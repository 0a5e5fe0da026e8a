"""Credentials for https remotes. Read at the moment of use, given to git by its environment, never written anywhere.

Three places, in this order: the secret handle that the repository names (or the job's owner has for it); the one handle
that fits the remote's host, the tool and whose job it is (`tools.secrets`); the file of the setting GIT_CREDENTIALS_FILE in
the format of git-credential-store(1), a line `https://user:token@host[:port][/path]` a remote, the most exact match wins.
"""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from django.conf import settings

from tools import redact, secrets
from tools.errors import ToolFailed

# With a token alone: GitHub's name for one; the other forges take any.
TOKEN_USER = "x-access-token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What lets the server in at a host."""

    user: str
    password: str = field(repr=False)


def header_options(url: str, *, tool: str, credential: str = "") -> dict[str, str]:
    """Variables that make git send the credentials kept for `url`; empty where there are none.

    The header is bound to the address, so that it goes to no other host. tool: who asks; credential: the secret handle
    named for it.

    Raises:
        ToolRefused: the handle may not be used for this.
        ToolFailed: the file is set and cannot be read.
    """
    login = login_for(url, tool=tool, credential=credential)
    if login is None:
        return {}
    encoded = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
    redact.register(login.password, encoded)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{url}.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {encoded}",
    }


def login_for(url: str, *, tool: str, credential: str = "", host: str = "") -> Login | None:
    """User and password for the repository at `url`; None where the server keeps none.

    host: where they are sent, where that is not the host of `url` (a forge's API).

    Raises:
        ToolRefused, ToolFailed: as `header_options`.
    """
    parts = urlsplit(url)
    to = host or _host(parts)
    name = credential or secrets.for_host(to, tool=tool)
    if name:
        user, colon, password = secrets.resolve(name, tool=tool, host=to).partition(":")
        return Login(user=user, password=password) if colon else Login(user=TOKEN_USER, password=user)
    found = _find(parts)
    if found is None:
        return None
    password = unquote(found.password or "")
    redact.register(password)
    return Login(user=unquote(found.username or ""), password=password)


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port in (None, 443) else f"{host}:{parts.port}"


def _find(url: SplitResult) -> SplitResult | None:
    name = str(getattr(settings, "GIT_CREDENTIALS_FILE", "") or "")
    if not name:
        return None
    try:
        lines = Path(name).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ToolFailed(f"GIT_CREDENTIALS_FILE cannot be read: {error.strerror}.") from None
    matches = [
        entry
        for entry in (urlsplit(line.strip()) for line in lines if line.strip() and not line.startswith("#"))
        if entry.scheme == "https"
        and entry.hostname == url.hostname
        and (entry.port or 443) == (url.port or 443)
        and _covers(entry.path, url.path)
    ]
    return max(matches, key=lambda entry: len(entry.path), default=None)


def _covers(folder: str, path: str) -> bool:
    folder = folder.rstrip("/")
    return not folder or path == folder or path.startswith(f"{folder}/") or path == f"{folder}.git"
