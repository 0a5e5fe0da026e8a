"""What kind of forge a repository is at, by its host's name or by what its API answers."""

from urllib.parse import unquote, urlsplit

from tools.builtin.git.hosting.client import Api
from tools.errors import ToolFailed, ToolRefused

KINDS = ("github", "gitlab", "gitea")
_KNOWN = {"github.com": "github", "gitlab.com": "gitlab", "codeberg.org": "gitea", "gitea.com": "gitea"}
_NAMES = {"github": "github", "gitlab": "gitlab", "gitea": "gitea", "forgejo": "gitea"}
# What answers there without a login, and by which field of the answer (or status) it shows.
_PROBES = (("gitea", "/api/v1/version"), ("gitlab", "/api/v4/version"), ("github", "/api/v3/meta"))


def base_of(kind: str, url: str) -> str:
    """The API's address for a repository of that kind at `url`."""
    parts = urlsplit(url)
    if kind == "github" and parts.hostname == "github.com":
        return "https://api.github.com"
    version = {"github": "v3", "gitlab": "v4", "gitea": "v1"}[kind]
    return f"https://{parts.netloc}/api/{version}"


def path_of(url: str) -> str:
    """`owner/name` (at GitLab with groups between) of a repository's address.

    Raises:
        ToolRefused: it has none.
    """
    parts = [unquote(part) for part in urlsplit(url).path.strip("/").removesuffix(".git").split("/")]
    if len(parts) < 2 or not all(parts) or any(part in (".", "..") or "/" in part for part in parts):
        raise ToolRefused("This repository's address names no owner and repository of a forge.", url=url)
    return "/".join(parts)


def known(url: str) -> str:
    """The kind, by the host's name alone; "" where that says nothing."""
    host = urlsplit(url).hostname or ""
    return _KNOWN.get(host) or next((_NAMES[label] for label in host.split(".")[:-1] if label in _NAMES), "")


def asked(url: str, api: Api) -> str:
    """The kind, by what the host answers to a question that needs no login.

    Raises:
        ToolFailed: it answers none of them.
    """
    host = f"https://{urlsplit(url).netloc}"
    for kind, path in _PROBES:
        answer = api.get(f"{host}{path}", login=False)
        body = answer.body if isinstance(answer.body, dict) else {}
        if kind == "gitea" and answer.status == 200 and "version" in body:
            return kind
        if kind == "gitlab" and answer.status in (200, 401) and ("version" in body or "message" in body):
            return kind
        if kind == "github" and answer.status == 200 and "verifiable_password_authentication" in body:
            return kind
    raise ToolFailed(
        f"What kind of forge {urlsplit(url).hostname} is cannot be told: say so at the repository (hosting).",
        code_detail="unknown_forge",
    )
