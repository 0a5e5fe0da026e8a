"""Pull requests at GitHub, GitLab and Gitea (Forgejo too): found, opened, closed.

Written after the forges' own references: docs.github.com/rest/pulls, docs.gitlab.com/api/merge_requests,
gitea.com/api/swagger (repository). What comes back is read by name and type; nothing of it is believed beyond that.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from tools.builtin.git.cli import Declined
from tools.builtin.git.credentials import Login
from tools.builtin.git.hosting.client import Answer, Api
from tools.errors import ToolFailed

_PAGE = 50
_PAGES_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A pull request as the forge has it. sha: its head's commit, "" where the forge does not say."""

    number: int
    url: str
    title: str
    head: str
    base: str
    sha: str
    state: str
    draft: bool

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Forge(ABC):
    """One repository's pull requests. api: speaks to it; base: the API's address; path: `owner/name`.

    Raises (each method):
        Declined: the forge refuses what the caller can put right.
        ToolFailed: it does not let us in, or cannot be reached (then transient).
    """

    kind: ClassVar[str]

    def __init__(self, api: Api, base: str, path: str, host: str) -> None:
        self._api = api
        self._base = base
        self._path = path
        self._host = host

    @staticmethod
    @abstractmethod
    def headers(login: Login | None) -> dict[str, str]:
        """What says who asks."""

    @abstractmethod
    def find(self, *, head: str, base: str) -> Request | None:
        """The open request to bring `head` into `base`, both branches of this repository."""

    @abstractmethod
    def get(self, number: int) -> Request:
        """The request of that number."""

    @abstractmethod
    def open(self, *, head: str, base: str, title: str, body: str, draft: bool) -> Request:
        """Makes one."""

    @abstractmethod
    def close(self, number: int) -> Request:
        """Closes one without bringing it in."""

    def _request(self, answer: Answer, what: str) -> Request:
        if answer.status not in (200, 201) or not isinstance(answer.body, dict):
            raise _failure(answer, self._host, what)
        return self._read(answer.body)

    def _list(self, answer: Answer) -> list[Mapping[str, Any]]:
        if answer.status != 200 or not isinstance(answer.body, list):
            raise _failure(answer, self._host, "list its pull requests")
        return [entry for entry in answer.body if isinstance(entry, dict)]

    @abstractmethod
    def _read(self, entry: Mapping[str, Any]) -> Request: ...


class GitHub(Forge):
    kind = "github"

    @staticmethod
    def headers(login: Login | None) -> dict[str, str]:
        given = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        return given | ({"Authorization": f"Bearer {login.password}"} if login else {})

    @property
    def _pulls(self) -> str:
        return f"{self._base}/repos/{quote(self._path)}/pulls"

    def find(self, *, head: str, base: str) -> Request | None:
        owner = self._path.split("/")[0]
        answer = self._api.get(self._pulls, state="open", head=f"{owner}:{head}", base=base, per_page=str(_PAGE))
        return self._own(self._list(answer), head, base)

    def _own(self, entries: list[Mapping[str, Any]], head: str, base: str) -> Request | None:
        """The one that is wanted, of this repository itself: a fork may have a branch of the same name."""
        mine = (
            one
            for one in entries
            if _text(_part(_part(one, "head"), "repo"), "full_name").lower() == self._path.lower()
        )
        return _first(map(self._read, mine), head, base)

    def get(self, number: int) -> Request:
        return self._request(self._api.get(f"{self._pulls}/{number}"), "show the pull request")

    def open(self, *, head: str, base: str, title: str, body: str, draft: bool) -> Request:
        given = {"title": title, "head": head, "base": base, "body": body, "draft": draft}
        return self._request(self._api.post(self._pulls, given), "open the pull request")

    def close(self, number: int) -> Request:
        return self._request(self._api.patch(f"{self._pulls}/{number}", {"state": "closed"}), "close the pull request")

    def _read(self, entry: Mapping[str, Any]) -> Request:
        head, base = _part(entry, "head"), _part(entry, "base")
        return Request(
            number=_number(entry, "number"),
            url=_text(entry, "html_url"),
            title=_text(entry, "title"),
            head=_text(head, "ref"),
            base=_text(base, "ref"),
            sha=_text(head, "sha"),
            state=_text(entry, "state"),
            draft=entry.get("draft") is True,
        )


class Gitea(GitHub):
    """As GitHub, but for the login, drafts (by the title) and that its list cannot be asked by branch."""

    kind = "gitea"

    @staticmethod
    def headers(login: Login | None) -> dict[str, str]:
        return {"Authorization": f"token {login.password}"} if login else {}

    def find(self, *, head: str, base: str) -> Request | None:
        for page in range(1, _PAGES_MAX + 1):
            entries = self._list(self._api.get(self._pulls, state="open", page=str(page), limit=str(_PAGE)))
            found = self._own(entries, head, base)
            if found is not None or not entries:
                return found
        raise ToolFailed(f"{self._host} has too many open pull requests to look through.")

    def open(self, *, head: str, base: str, title: str, body: str, draft: bool) -> Request:
        given = {"title": f"WIP: {title}" if draft else title, "head": head, "base": base, "body": body}
        return self._request(self._api.post(self._pulls, given), "open the pull request")

    def _read(self, entry: Mapping[str, Any]) -> Request:
        found = GitHub._read(self, entry)
        return Request(**{**found.as_json(), "draft": found.draft or found.title.startswith("WIP:")})


class GitLab(Forge):
    kind = "gitlab"

    @staticmethod
    def headers(login: Login | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {login.password}"} if login else {}

    @property
    def _requests(self) -> str:
        return f"{self._base}/projects/{quote(self._path, safe='')}/merge_requests"

    def find(self, *, head: str, base: str) -> Request | None:
        answer = self._api.get(
            self._requests, state="opened", source_branch=head, target_branch=base, per_page=str(_PAGE)
        )
        mine = (
            entry for entry in self._list(answer) if entry.get("source_project_id") == entry.get("target_project_id")
        )
        return _first(map(self._read, mine), head, base)

    def get(self, number: int) -> Request:
        return self._request(self._api.get(f"{self._requests}/{number}"), "show the merge request")

    def open(self, *, head: str, base: str, title: str, body: str, draft: bool) -> Request:
        named = f"Draft: {title}" if draft else title
        given = {"source_branch": head, "target_branch": base, "title": named, "description": body}
        return self._request(self._api.post(self._requests, given), "open the merge request")

    def close(self, number: int) -> Request:
        answer = self._api.put(f"{self._requests}/{number}", {"state_event": "close"})
        return self._request(answer, "close the merge request")

    def _read(self, entry: Mapping[str, Any]) -> Request:
        state = _text(entry, "state")
        return Request(
            number=_number(entry, "iid"),
            url=_text(entry, "web_url"),
            title=_text(entry, "title"),
            head=_text(entry, "source_branch"),
            base=_text(entry, "target_branch"),
            sha=_text(entry, "sha"),
            state="open" if state == "opened" else state,
            draft=entry.get("draft") is True,
        )


FORGES: dict[str, type[Forge]] = {forge.kind: forge for forge in (GitHub, GitLab, Gitea)}


def _first(found: Any, head: str, base: str) -> Request | None:
    """The one that is wanted, whatever the forge's filter made of the question."""
    return next((one for one in found if (one.head, one.base, one.state) == (head, base, "open")), None)


def _failure(answer: Answer, host: str, what: str) -> Exception:
    said = _said(answer.body)
    if answer.status in (401, 403):
        return ToolFailed(f"{host} does not let the server {what}: {said}", code_detail="no_access")
    if answer.status == 404:
        return ToolFailed(
            f"{host} has no such repository or pull request, or hides it: {said}", code_detail="no_such_remote"
        )
    if answer.status in (400, 405, 409, 422):
        return Declined(f"{host} refuses to {what}: {said}", code="forge_refused", text=said, status=answer.status)
    transient = answer.status in (408, 425, 429) or answer.status >= 500
    return ToolFailed(f"{host} did not {what} ({answer.status}): {said}", transient=transient, code_detail="forge")


def _said(body: Any) -> str:
    """What the forge says of a refusal, in one line."""
    if not isinstance(body, dict):
        return "no reason given"
    words = [body.get("message"), body.get("error")]
    words += [
        entry.get("message") or entry.get("field") for entry in body.get("errors") or [] if isinstance(entry, dict)
    ]
    flat = [" ".join(map(str, word)) if isinstance(word, list) else str(word) for word in words if word]
    return " ".join("; ".join(dict.fromkeys(flat)).split())[:500] or "no reason given"


def _part(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = entry.get(name)
    return found if isinstance(found, dict) else {}


def _text(entry: Mapping[str, Any], name: str) -> str:
    found = entry.get(name)
    return found[:2000] if isinstance(found, str) else ""


def _number(entry: Mapping[str, Any], name: str) -> int:
    found = entry.get(name)
    if not isinstance(found, int) or isinstance(found, bool):
        raise ToolFailed("The forge's answer names no pull request.")
    return found
