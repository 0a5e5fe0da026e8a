"""git.pull_request and git.close_pull_request, at the forge where origin is."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tools.builtin.git import remotes
from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.credentials import Login, login_for
from tools.builtin.git.hosting import kinds
from tools.builtin.git.hosting.adapters import FORGES, Forge, Request
from tools.builtin.git.hosting.client import Api
from tools.builtin.git.pushing import broker_of
from tools.builtin.git.refs import BRANCH_SCHEMA, check_name
from tools.builtin.git.text import bounded, diffstat, plural
from tools.builtin.git.tool import GitTool, typed
from tools.errors import InvalidArguments, ToolFailed
from tools.spec import Box, Effect, Result, Risk, RiskScore

_COMMITS_SHOWN = 50
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")


class PullRequest(GitTool):
    effect = Effect.ONCE
    name = "git.pull_request"
    summary = (
        "Open a pull request (GitLab: merge request) at origin's forge, from a branch that was pushed. One that is open "
        "already for the same branches is found and left as it is."
    )
    undone_by = "`git.close_pull_request`"
    schema = {
        "type": "object",
        "properties": {
            "title": {"type": "string", "minLength": 1, "maxLength": 250},
            "body": {"type": "string", "maxLength": 30_000, "default": ""},
            "branch": {**BRANCH_SCHEMA, "description": "The branch at origin that is to be brought in."},
            "base": {**BRANCH_SCHEMA, "description": "The branch it is for (default: origin's default branch)."},
            "draft": {"type": "boolean", "default": False},
        },
        "required": ["title", "branch"],
        "additionalProperties": False,
    }
    examples = ({"title": "Round to even", "body": "Fixes the sums of #12.", "branch": "fix/rounding", "draft": True},)

    def check(self, arguments: Mapping[str, Any]) -> None:
        for field in ("branch", "base"):
            if field in arguments:
                check_name(arguments[field], field=field)
        if _CONTROL.search(arguments["title"]) or not arguments["title"].strip():
            raise InvalidArguments("The title is one line with something on it.", field="arguments.title")
        if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", arguments.get("body", "")):
            raise InvalidArguments("The text holds control characters.", field="arguments.body")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(
            level=Risk.MEDIUM, reasons=("others are told, and its text is public where the repository is",)
        )

    def describe(self, arguments: Mapping[str, Any]) -> str:
        base = arguments.get("base", "")
        words = ["--draft"] if arguments.get("draft") else []
        aim = f"{arguments['branch']}:{base}" if base else arguments["branch"]
        return typed("pull-request", *words, "--title", arguments["title"], aim)

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"url", "branch", "head_sha", "base", "open": number of the one that is open already, 0 for none}

        Raises:
            Declined: origin is at no forge, or the branch was not pushed.
        """
        git = Git(box)
        state = self._state(arguments, git)
        found = _forge(git, self.name).find(head=state["branch"], base=state["base"])
        return {**state, "open": found.number if found else 0}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        git = Git(box)
        state = self._state(arguments, git)
        found = _forge(git, self.name).find(head=state["branch"], base=state["base"])
        if found is not None:
            return f"Pull request {found.number} is open already for these branches: {found.url}"
        head = state["head_sha"]
        broker = broker_of(git, self.name)
        with broker.open():
            broker.refresh()
            base = broker.branches().get(state["base"], "")
            if not base:
                return f"origin has no branch {state['base']}: this would fail."
            commits = broker.behind(head, base, most=_COMMITS_SHOWN + 1)
            stat = broker.stat(broker.base(base, head) or base, head)
        if not commits:
            return f"{state['base']} has all of {state['branch']}: this would fail."
        count = (
            plural(len(commits), "commit") if len(commits) <= _COMMITS_SHOWN else f"more than {_COMMITS_SHOWN} commits"
        )
        draft = " (draft)" if arguments.get("draft") else ""
        lines = [
            f"At {state['url']}: {state['branch']} at {head[:10]} into {state['base']}{draft}",
            f"{count}, {diffstat(stat)}",
            *(f"  {sha[:10]} {author}: {subject}" for sha, author, subject in commits[:_COMMITS_SHOWN]),
            "",
            arguments["title"],
            "",
            arguments.get("body", ""),
        ]
        local = git.branch(arguments["branch"])
        if local and local != head:
            lines.insert(1, f"The workspace's {arguments['branch']} is at {local[:10]}: only what was pushed counts.")
        return bounded("\n".join(lines), 48_000)

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        state = self._state(arguments, git)
        forge = _forge(git, self.name)
        head, base = state["branch"], state["base"]
        found = forge.find(head=head, base=base)
        if found is not None:
            return _opened(found, state, "is open already")
        try:
            made = forge.open(
                head=head,
                base=base,
                title=arguments["title"].strip(),
                body=arguments.get("body", ""),
                draft=bool(arguments.get("draft")),
            )
        except (ToolFailed, Declined) as failed:
            arrived = forge.find(head=head, base=base) if isinstance(failed, Declined) or failed.transient else None
            if arrived is None:
                raise
            return _opened(arrived, state, "was opened, though the answer was lost")
        return _opened(made, state, "is open")

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        git = Git(box)
        state = dict(target_state) or self._state(arguments, git)
        found = _forge(git, self.name).find(head=state["branch"], base=state["base"])
        return _opened(found, state, "was found open") if found is not None else None

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        if data["how"] == "is open already":
            return None
        return {"tool": "git.close_pull_request", "arguments": {"number": data["number"]}}

    def _state(self, arguments: Mapping[str, Any], git: Git) -> dict[str, Any]:
        origin = _origin(git)
        branch = str(arguments["branch"])
        base = str(arguments.get("base") or origin.default_branch or origin.branch)
        if branch == base:
            raise Declined("A pull request is from one branch into another.", code="same_branch", branch=branch)
        broker = broker_of(git, self.name)
        with broker.open():
            sha = broker.remote_sha(f"refs/heads/{branch}")
        if not sha:
            raise Declined(f"origin has no branch {branch}: push it first.", code="not_pushed", branch=branch)
        return {"url": origin.url, "branch": branch, "head_sha": sha, "base": base}


class ClosePullRequest(GitTool):
    effect = Effect.ONCE
    name = "git.close_pull_request"
    summary = "Close a pull request at origin's forge without bringing it in. Its branch stays."
    schema = {
        "type": "object",
        "properties": {"number": {"type": "integer", "minimum": 1, "maximum": 10**9}},
        "required": ["number"],
        "additionalProperties": False,
    }
    examples = ({"number": 12},)

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.MEDIUM, reasons=("others are told; it may be somebody else's",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return typed("close-pull-request", arguments["number"])

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"url", "number", "branch", "head_sha", "state"}"""
        git = Git(box)
        found = _forge(git, self.name).get(arguments["number"])
        url = _origin(git).url
        return {"url": url, "number": found.number, "branch": found.head, "head_sha": found.sha, "state": found.state}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        found = _forge(Git(box), self.name).get(arguments["number"])
        if found.state != "open":
            return f"Pull request {found.number} is {found.state}: nothing would change."
        return f"{found.url} would be closed: {found.title}\n{found.head} at {found.sha[:10]} into {found.base}"

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        forge = _forge(git, self.name)
        found = forge.get(arguments["number"])
        if found.state == "merged":
            raise Declined(f"Pull request {found.number} was brought in: it cannot be closed.", code="merged")
        if found.state == "open":
            found = forge.close(arguments["number"])
        return _closed(found)

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        found = _forge(Git(box), self.name).get(arguments["number"])
        return _closed(found) if found.state != "open" else None


def _origin(git: Git) -> remotes.Origin:
    origin = remotes.recall(git.workspace)
    if origin is None:
        raise Declined("This workspace was not cloned from anywhere.", code="no_origin")
    if remotes.is_local(origin.url):
        raise Declined("origin is a folder of this server: there is no forge for pull requests.", code="no_forge")
    return origin


def _forge(git: Git, tool: str) -> Forge:
    """The adapter for the forge where origin is.

    Raises:
        Declined: there is none.
        ToolRefused: the call's constraints do not let it be reached.
        ToolFailed: what kind it is cannot be told.
    """
    origin = _origin(git)
    git.box.reach(origin.url)
    known = origin.hosting or kinds.known(origin.url)
    api = Api(lambda: forge.headers(_login(origin, base, tool)), record=git.box.connections)
    forge = FORGES[known or kinds.asked(origin.url, api)]
    base = kinds.base_of(forge.kind, origin.url)
    return forge(api, base, kinds.path_of(origin.url), urlsplit(base).netloc)


def _login(origin: remotes.Origin, base: str, tool: str) -> Login | None:
    return login_for(origin.url, tool=tool, credential=origin.credential, host=urlsplit(base).netloc)


def _opened(found: Request, state: Mapping[str, Any], how: str) -> Result:
    return Result(
        ok=True,
        summary=f"Pull request {found.number} {how}: {found.title}",
        data={**found.as_json(), "head_sha": state["head_sha"], "how": how},
        text=f"{found.url}\n{found.head} into {found.base}: {how}",
    )


def _closed(found: Request) -> Result:
    return Result(
        ok=True,
        summary=f"Pull request {found.number} is {found.state}.",
        data=found.as_json(),
        text=found.url,
    )
