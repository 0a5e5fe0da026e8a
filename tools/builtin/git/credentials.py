"""Credentials for https remotes. Read at the moment of use, given to git by its environment, never written anywhere.

The setting GIT_CREDENTIALS_FILE names a file in the format of git-credential-store(1): a line
`https://user:token@host[:port][/path]` a remote, the most exact match wins.
"""

import base64
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from django.conf import settings

from tools import redact
from tools.errors import ToolFailed


def header_options(url: str) -> dict[str, str]:
    """Variables that make git send the credentials kept for `url`; empty where there are none.

    The header is bound to the address, so that it goes to no other host.

    Raises:
        ToolFailed: the file is set and cannot be read.
    """
    found = _find(urlsplit(url))
    if found is None:
        return {}
    password = unquote(found.password or "")
    encoded = base64.b64encode(f"{unquote(found.username or '')}:{password}".encode()).decode()
    redact.register(password, encoded)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{url}.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {encoded}",
    }


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
