"""git.delete_branch: in the workspace, or at origin."""

from collections.abc import Mapping
from typing import Any

from tools.builtin.git.broker import Broker
from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.forcing import SHA_SCHEMA, refuse_default_branch
from tools.builtin.git.pushing import broker_of, dropped, remote_state
from tools.builtin.git.reading import log_line, read_log
from tools.builtin.git.refs import BRANCH_SCHEMA, check_name
from tools.builtin.git.text import bounded, last_line, plural
from tools.builtin.git.tool import GitTool, typed
from tools.errors import InvalidArguments, ToolFailed
from tools.spec import Box, Effect, Result, Risk, RiskScore

_SHOWN = 50


class DeleteBranch(GitTool):
    name = "git.delete_branch"
    summary = (
        "Delete a branch of the workspace, or with at=origin at the remote (never its default branch). A local branch whose "
        "commits are nowhere else needs unmerged=true."
    )
    effect = Effect.ONCE
    writes = True
    undone_by = "`git.branch` (workspace) or `git.restore_branch` (origin), as `data.undo` has it"
    schema = {
        "type": "object",
        "properties": {
            "branch": BRANCH_SCHEMA,
            "at": {"enum": ["workspace", "origin"], "default": "workspace"},
            "unmerged": {"type": "boolean", "default": False},
            "expected": {**SHA_SCHEMA, "description": "The commit where it must stand."},
        },
        "required": ["branch"],
        "additionalProperties": False,
    }
    examples = ({"branch": "fix/rounding"}, {"branch": "fix/rounding", "at": "origin"})

    def check(self, arguments: Mapping[str, Any]) -> None:
        check_name(arguments["branch"], field="branch")
        if arguments.get("unmerged") and _at_origin(arguments):
            raise InvalidArguments("unmerged is for branches of the workspace.", field="arguments.unmerged")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        if _at_origin(arguments):
            return RiskScore(level=Risk.HIGH, reasons=("a branch that others can see goes away",))
        if arguments.get("unmerged"):
            return RiskScore(level=Risk.MEDIUM, reasons=("commits that are nowhere else lose their name",))
        return RiskScore(level=Risk.LOW, reasons=("changes only the job's own workspace",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        if _at_origin(arguments):
            return typed("push", "origin", "--delete", arguments["branch"])
        return typed("branch", "-D" if arguments.get("unmerged") else "-d", arguments["branch"])

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"branch", "sha"} of the workspace, or {"remote_ref", "remote_sha", "url"} of origin."""
        git = Git(box)
        if _at_origin(arguments):
            state = self._there(arguments, git, broker_of(git, self.name))
            return {name: state[name] for name in ("remote_ref", "remote_sha", "url")}
        return {"branch": arguments["branch"], "sha": git.branch(arguments["branch"])}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        git = Git(box)
        if not _at_origin(arguments):
            return _local_preview(git, arguments)
        broker = broker_of(git, self.name)
        state = self._there(arguments, git, broker)
        sha = state["remote_sha"]
        if not sha:
            return f"To {state['url']}\n  {state['remote_ref']} is not there: nothing to delete."
        with broker.open():
            broker.refresh()
            answer = broker.push("", state["remote_ref"], expected=sha, dry_run=True)
            lost = dropped(
                broker, sha, *(one for name, one in broker.branches().items() if name != arguments["branch"])
            )
        lines = lost or ["  its commits are on other branches there too"]
        return bounded(
            "\n".join(
                [f"To {state['url']}", f"  {state['remote_ref']}: {sha[:10]} -> (deleted) {answer.detail}", *lines]
            )
        )

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        return self._delete_there(arguments, git) if _at_origin(arguments) else _delete_here(arguments, git)

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        git = Git(box)
        if not _at_origin(arguments):
            if git.branch(arguments["branch"]):
                return None
            return _deleted(arguments["branch"], "workspace", target_state.get("sha") or "")
        broker = broker_of(git, self.name)
        with broker.open():
            state = self._there(arguments, git, broker)
        if state["remote_sha"]:
            return None
        return _deleted(arguments["branch"], "origin", target_state.get("remote_sha") or "")

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        branch, sha = data["branch"], data["sha"]
        if not sha:
            return None
        if _at_origin(arguments):
            return {"tool": "git.restore_branch", "arguments": {"branch": branch, "sha": sha, "expected": ""}}
        return {"tool": "git.branch", "arguments": {"create": branch, "start": sha}}

    def _there(self, arguments: Mapping[str, Any], git: Git, broker: Broker) -> dict[str, Any]:
        refuse_default_branch(git, arguments["branch"], "deleted")
        state = remote_state(broker, "", f"refs/heads/{arguments['branch']}")
        _as_expected(arguments, state["remote_sha"])
        return state

    def _delete_there(self, arguments: Mapping[str, Any], git: Git) -> Result:
        broker = broker_of(git, self.name)
        with broker.open():
            state = self._there(arguments, git, broker)
            sha, ref = state["remote_sha"], state["remote_ref"]
            if not sha:
                raise Declined(f"origin has no branch {arguments['branch']}.", code="unknown_ref")
            broker.refresh()
            broker.keep(sha, ref)
            try:
                answer = broker.push("", ref, expected=sha, dry_run=False)
            except ToolFailed:
                if broker.remote_sha(ref):
                    raise
            else:
                if not answer.ok:
                    why = answer.detail.splitlines()[0]
                    raise Declined(f"origin refused: {why}", code="push_refused", text=answer.detail)
        git.run("update-ref", "--no-deref", "-d", f"refs/remotes/origin/{arguments['branch']}", write=True)
        return _deleted(arguments["branch"], "origin", sha)


def _at_origin(arguments: Mapping[str, Any]) -> bool:
    return arguments.get("at") == "origin"


def _as_expected(arguments: Mapping[str, Any], sha: str) -> None:
    expected = arguments.get("expected")
    if expected and sha and sha != expected:
        raise Declined(
            f"{arguments['branch']} stands at {sha[:10]}, not at {expected[:10]}: it is left there.",
            code="lease_broken",
        )


def _lonely(git: Git, branch: str, sha: str) -> list[dict[str, Any]]:
    """Commits that no other branch, tag or remote branch holds."""
    words = [f"--exclude=refs/heads/{branch}", "--exclude=refs/countersign/*", "--all"]
    return read_log(git, sha, "--not", *words, max_count=_SHOWN + 1, bare=True)


def _local_preview(git: Git, arguments: Mapping[str, Any]) -> str:
    sha = git.branch(arguments["branch"])
    if not sha:
        return "There is no such branch: this would fail."
    lonely = _lonely(git, arguments["branch"], sha)
    heading = f"{arguments['branch']} at {sha[:10]} would be deleted."
    if not lonely:
        return f"{heading}\nIts commits are on other branches too."
    count = f"more than {_SHOWN} commits" if len(lonely) > _SHOWN else plural(len(lonely), "commit")
    return bounded(
        "\n".join([heading, f"{count} would be nowhere else:", *(f"  {log_line(one)}" for one in lonely[:_SHOWN])])
    )


def _delete_here(arguments: Mapping[str, Any], git: Git) -> Result:
    name = arguments["branch"]
    sha = git.branch(name)
    if not sha:
        raise Declined(f"There is no branch {name!r} here.", code="unknown_ref", ref=name)
    _as_expected(arguments, sha)
    if git.current_branch() == name:
        raise Declined(f"{name} is checked out: check out another branch first.", code="checked_out")
    if not arguments.get("unmerged") and _lonely(git, name, sha):
        raise Declined(f"{name} has commits that are nowhere else: say unmerged.", code="unmerged", sha=sha)
    done = git.run("branch", "--quiet", "-D", "--", name, write=True)
    if done.exit_code != 0:
        raise Declined(f"git did not delete {name}: {last_line(done.stderr)}", code="delete_refused", text=done.stderr)
    return _deleted(name, "workspace", sha)


def _deleted(branch: str, at: str, sha: str) -> Result:
    where = "at origin" if at == "origin" else "in the workspace"
    return Result(
        ok=True,
        summary=f"Branch {branch} is deleted {where}; it stood at {sha[:10] or '(unknown)'}.",
        data={"branch": branch, "at": at, "sha": sha},
        exit_code=0,
    )
