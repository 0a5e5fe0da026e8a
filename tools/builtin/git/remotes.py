"""Where a workspace was cloned from.

Kept beside the folders that commands can write to, where none reaches: the repository's own configuration is not
believed. It goes when the workspace goes.
"""

import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.conf import settings

from tools.egress.allowlist import Allowlist
from tools.errors import ToolRefused
from tools.spec import Workspace

_RECORD = "origin.json"
_find: Callable[[], Iterable[str]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """url: canonical address of the remote; branch: what was asked for; default_branch: the remote's HEAD, or "";
    sha: the commit checked out by prepare, "" for an empty remote; credential: the secret handle with which the server
    goes there, "" for what it keeps for the host; hosting: the kind of forge that it is, "" where nobody said."""

    url: str
    branch: str
    default_branch: str
    sha: str
    credential: str = ""
    hosting: str = ""


def check_url(url: str) -> str:
    """The canonical form of a remote's address: `https://host[:port]/path`, or an absolute path where those are allowed.

    Raises:
        ToolRefused: another scheme, a name or password in it, or a local path where the server does not allow them.
    """
    if re.search(r"[\x00-\x20\x7f\\]", url) or url.startswith("-"):
        raise ToolRefused("The repository's address holds characters that are not allowed.", field="arguments.url")
    if url.startswith("/"):
        return _local(url)
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return _local(unquote(parts.path))
    if parts.scheme != "https" or not parts.hostname:
        raise ToolRefused("The repository's address must start with https://.", field="arguments.url")
    if parts.username is not None or parts.password is not None:
        raise ToolRefused("The repository's address may not hold a user name or password.", field="arguments.url")
    if parts.query or parts.fragment or not re.fullmatch(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:]+", parts.hostname):
        raise ToolRefused("The repository's address is not well formed.", field="arguments.url")
    return url.rstrip("/")


def is_local(url: str) -> bool:
    """Whether a canonical address is a path of this host."""
    return url.startswith("/")


def check_host(url: str, *, named: bool) -> None:
    """Holds a remote's host to the setting GIT_HOSTS, where that names any.

    named: an admin (the row of a repository) or the rule in force named the host; without, it must be one of GIT_HOSTS or
    of this server's repositories.

    Raises:
        ToolRefused
    """
    if is_local(url):
        if not named and url not in _known_hosts():
            raise ToolRefused("This path is no repository of this server's.", field="arguments.url")
        return
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    given = [pattern.strip() for pattern in str(settings.GIT_HOSTS).split(",") if pattern.strip()]
    listed = Allowlist.parse(given).allows(host, port) if given else False
    if given and not listed:
        raise ToolRefused(f"{host} is not among the hosts of GIT_HOSTS.", field="arguments.url", host=host)
    if not (named or listed or (host if port == 443 else f"{host}:{port}") in _known_hosts()):
        raise ToolRefused(
            f"No repository of this server's is at {host}, and neither GIT_HOSTS nor the rule in force names it.",
            field="arguments.url",
            host=host,
        )


def known_by(find: Callable[[], Iterable[str]]) -> None:
    """Says who knows the addresses of this server's repositories: the app above that has them."""
    global _find
    _find = find


def _known_hosts() -> set[str]:
    """`host`, `host:port` and local paths of the server's repositories."""
    found = set()
    for url in _find() if _find is not None else ():
        parts = urlsplit(url)
        if parts.hostname:
            found.add(parts.hostname if parts.port in (None, 443) else f"{parts.hostname}:{parts.port}")
        else:
            found.add(os.path.realpath(unquote(parts.path)))
    return found


def _local(path: str) -> str:
    if not settings.ALLOW_LOCAL_REPOSITORIES:
        raise ToolRefused(
            "Repositories by path are not allowed on this server (ALLOW_LOCAL_REPOSITORIES).", field="arguments.url"
        )
    real = Path(os.path.realpath(path))
    ours = (Path(settings.WORKSPACE_DIR).resolve(), (Path(settings.DATA_DIR) / "broker").resolve())
    if not real.is_absolute() or any(real == folder or folder in real.parents for folder in ours):
        raise ToolRefused("The repository's path is not one that may be cloned.", field="arguments.url")
    return str(real)


def record(workspace: Workspace, origin: Origin) -> None:
    """Keeps where the workspace came from; its presence means that prepare has finished."""
    temporary = workspace.root / f"{_RECORD}.new"
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(origin), file)
    os.replace(temporary, workspace.root / _RECORD)


def recall(workspace: Workspace) -> Origin | None:
    """Where the workspace came from, or None before prepare has finished."""
    try:
        return Origin(**json.loads((workspace.root / _RECORD).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def forget(workspace: Workspace) -> None:
    """Drops the record, when the workspace is made anew."""
    (workspace.root / _RECORD).unlink(missing_ok=True)


def lock_path(workspace: Workspace) -> Path:
    """The lock file of the workspace's repository."""
    return workspace.root / "repository.lock"
