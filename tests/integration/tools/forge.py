"""The APIs of GitHub, GitLab and Gitea for pull requests, on a real bare repository: they ask for what the real ones
document, and refuse as those do (docs.github.com/rest/pulls/pulls, docs.gitlab.com/api/merge_requests, and the swagger of
gitea.com)."""

import json
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.integration.tools.git_support import plain_git

Reply = tuple[int, Any]


@dataclass
class Pull:
    number: int
    head: str
    base: str
    title: str
    body: str
    draft: bool = False
    state: str = "open"
    owner: str = ""  # of the repository where its head is


@dataclass
class Forge:
    """kind: which one it plays; path: `owner/name`; bare: the repository; lose: the answer to the next change is lost, after
    it was made; fail_with: answers with this status; wanted: the token that it lets in."""

    kind: str
    path: str
    bare: Path
    wanted: str
    base: str = ""
    lose: bool = False
    fail_with: int = 0
    pulls: list[Pull] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, method: str, target: str, headers: Message, body: bytes) -> Reply | None:
        url = urlsplit(target)
        self.asked.append((method, target))
        if self.fail_with:
            return self.fail_with, {"message": "Try later"}
        query = dict(parse_qsl(url.query))
        if not headers.get("User-Agent"):
            return 403, {"message": "Request forbidden by administrative rules."}
        about = self._about(method, url.path)
        if about is not None:
            return about
        prefix = {
            "github": f"/api/v3/repos/{self.path}/pulls",
            "gitea": f"/api/v1/repos/{self.path}/pulls",
            "gitlab": f"/api/v4/projects/{self.path.replace('/', '%2F')}/merge_requests",
        }[self.kind]
        if not url.path.startswith(prefix):
            return 404, {"message": "404 Project Not Found" if self.kind == "gitlab" else "Not Found"}
        refused = self._refused(headers)
        if refused is not None:
            return refused
        rest = unquote(url.path.removeprefix(prefix)).strip("/")
        given = json.loads(body) if body else {}
        if body and headers.get_content_type() != "application/json":
            return 415, {"message": "Unsupported Media Type"}
        answer = self._act(method, rest, query, given)
        if self.lose and method != "GET":
            self.lose = False
            return None
        return answer

    def _about(self, method: str, path: str) -> Reply | None:
        """What is answered without a login."""
        if self.kind == "gitea" and path == "/api/v1/version":
            return 200, {"version": "1.22.0"}
        if self.kind == "gitlab" and path == "/api/v4/version":
            return 401, {"message": "401 Unauthorized"}
        if self.kind == "github" and path == "/api/v3/meta":
            return 200, {"verifiable_password_authentication": False, "installed_version": "3.13.0"}
        return None

    def _refused(self, headers: Message) -> Reply | None:
        said = headers.get("Authorization", "")
        right = {"github": f"Bearer {self.wanted}", "gitlab": f"Bearer {self.wanted}", "gitea": f"token {self.wanted}"}
        if said == right[self.kind]:
            return None
        words = {"github": "Bad credentials", "gitlab": "401 Unauthorized", "gitea": "token is required"}
        return 401, {"message": words[self.kind]}

    def _act(self, method: str, rest: str, query: dict[str, str], given: dict[str, Any]) -> Reply:
        if not rest and method == "GET":
            return 200, self._listed(query)
        if not rest and method == "POST":
            return self._opened(given)
        pull = next((one for one in self.pulls if str(one.number) == rest), None)
        if pull is None:
            return 404, {"message": "Not Found"}
        if method == ("PUT" if self.kind == "gitlab" else "PATCH"):
            if self.kind == "gitlab":
                if given != {"state_event": "close"}:
                    return 400, {"error": "state_event does not have a valid value"}
            elif given != {"state": "closed"}:
                return 422, {"message": "Validation Failed"}
            pull.state = "closed"
        elif method != "GET":
            return 405, {"message": "405 Method Not Allowed"}
        return 200, self._shown(pull)

    def _listed(self, query: dict[str, str]) -> list[dict[str, Any]]:
        wanted = {"opened": "open"}.get(query.get("state", "open"), query.get("state", "open"))
        found = [one for one in self.pulls if wanted in ("all", one.state)]
        if self.kind == "github":
            owner, _, branch = query.get("head", "").partition(":")
            found = [one for one in found if not branch or (one.owner, one.head) == (owner, branch)]
            found = [one for one in found if query.get("base", one.base) == one.base]
        if self.kind == "gitlab":
            found = [one for one in found if query.get("source_branch", one.head) == one.head]
            found = [one for one in found if query.get("target_branch", one.base) == one.base]
        size, page = int(query.get("limit") or query.get("per_page") or 30), int(query.get("page", "1"))
        return [self._shown(one) for one in found[(page - 1) * size : page * size]]

    def _opened(self, given: dict[str, Any]) -> Reply:
        head, base = ("source_branch", "target_branch") if self.kind == "gitlab" else ("head", "base")
        missing = [name for name in (head, base, "title") if not isinstance(given.get(name), str) or not given[name]]
        if missing and self.kind == "gitlab":
            return 400, {"error": ", ".join(f"{name} is missing" for name in missing)}
        if missing:
            return 422, {
                "message": "Validation Failed",
                "errors": [{"field": name, "code": "missing"} for name in missing],
            }
        known = {"github": {"body", "draft"}, "gitea": {"body"}, "gitlab": {"description"}}[self.kind]
        assert set(given) <= {head, base, "title", *known}, given
        shas = [self._sha(given[name]) for name in (head, base)]
        if not all(shas):
            return self._refuse("head" if not shas[0] else "base")
        if any((one.head, one.base, one.state) == (given[head], given[base], "open") for one in self._own()):
            return self._exists(given[head])
        ahead = plain_git(self.bare, "rev-list", "--count", f"{shas[1]}..{shas[0]}")
        if ahead == "0" and self.kind != "gitlab":
            return 422, {"message": f"No commits between {given[base]} and {given[head]}"}
        title = given["title"]
        draft = given.get("draft") is True or (self.kind == "gitlab" and title.startswith("Draft: "))
        made = Pull(
            len(self.pulls) + 1,
            given[head],
            given[base],
            title,
            given.get("body") or given.get("description") or "",
            draft,
        )
        made.owner = self.path.split("/")[0]
        self.pulls.append(made)
        return 201, self._shown(made)

    def _own(self) -> list[Pull]:
        return [one for one in self.pulls if one.owner == self.path.split("/")[0]]

    def _refuse(self, which: str) -> Reply:
        if self.kind == "gitlab":
            return 400, {"message": {"base": [f"{which} branch does not exist"]}}
        if self.kind == "gitea":
            return 404, {"message": "The target couldn't be found."}
        return 422, {"message": "Validation Failed", "errors": [{"field": which, "code": "invalid"}]}

    def _exists(self, head: str) -> Reply:
        if self.kind == "gitlab":
            return 409, {"message": ["Another open merge request already exists for this source branch: !1"]}
        if self.kind == "gitea":
            return 409, {"message": "pull request already exists for these targets"}
        owner = self.path.split("/")[0]
        said = f"A pull request already exists for {owner}:{head}."
        return 422, {"message": "Validation Failed", "errors": [{"code": "custom", "message": said}]}

    def _sha(self, branch: str) -> str:
        return plain_git(self.bare, "rev-parse", "--verify", "-q", f"refs/heads/{branch}", check=False)

    def _shown(self, pull: Pull) -> dict[str, Any]:
        name = self.path.split("/")[-1]
        if self.kind == "gitlab":
            return {
                "id": 1000 + pull.number,
                "iid": pull.number,
                "title": pull.title,
                "state": {"open": "opened"}.get(pull.state, pull.state),
                "source_branch": pull.head,
                "target_branch": pull.base,
                "source_project_id": 7 if pull.owner == self.path.split("/")[0] else 8,
                "target_project_id": 7,
                "sha": self._sha(pull.head),
                "draft": pull.draft,
                "web_url": f"{self.base}/{self.path}/-/merge_requests/{pull.number}",
            }
        kind = "pull" if self.kind == "github" else "pulls"
        return {
            "number": pull.number,
            "title": pull.title,
            "state": pull.state,
            "draft": pull.draft,
            "html_url": f"{self.base}/{self.path}/{kind}/{pull.number}",
            "head": {"ref": pull.head, "sha": self._sha(pull.head), "repo": {"full_name": f"{pull.owner}/{name}"}},
            "base": {"ref": pull.base, "sha": self._sha(pull.base), "repo": {"full_name": self.path}},
        }
