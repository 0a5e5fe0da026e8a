"""workspace.prepare: the remote's repository in the job's workspace, ready to work on."""

from collections.abc import Mapping
from typing import Any

from tools.builtin.git import remotes
from tools.builtin.git.broker import Broker
from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.config_scan import prepared
from tools.builtin.git.fetching import receive
from tools.builtin.git.hardening import environment, unplaced_command
from tools.builtin.git.refs import BRANCH_SCHEMA, check_name
from tools.builtin.git.text import last_line
from tools.builtin.git.tool import GitTool, refusal, typed
from tools.errors import ToolFailed
from tools.registry import register
from tools.spec import Box, Effect, Result, Risk, RiskScore


class Prepare(GitTool):
    """Clones into a separate git directory. May be run again: it knows a finished clone, and begins a half-done one
    afresh."""

    name = "workspace.prepare"
    summary = "Clone the job's repository into its workspace."
    effect = Effect.REPEATABLE
    needs_profile = "git"
    offered = False
    writes = True
    schema = {
        "type": "object",
        "properties": {
            "url": {"type": "string", "minLength": 1, "maxLength": 2000},
            "branch": {**BRANCH_SCHEMA, "minLength": 0, "description": "Default: the remote's own default branch."},
        },
        "required": ["url"],
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        remotes.check_url(arguments["url"])
        if arguments.get("branch"):
            check_name(arguments["branch"], field="branch")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("reads from the remote into the job's own workspace",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        branch = arguments.get("branch")
        return typed("clone", *(["--branch", branch] if branch else []), arguments["url"])

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        url, branch = remotes.check_url(arguments["url"]), arguments.get("branch", "")
        with self._lock(box):
            try:
                origin = _finished(box, url, branch) or _clone(box, url, branch)
            except Declined as declined:
                return refusal(declined)
        where = f"{origin.branch} at {origin.sha[:10]}" if origin.sha else f"{origin.branch}, which has no commit yet"
        return Result(
            ok=True,
            summary=f"Cloned {url}, on {where}.",
            data={
                "url": url,
                "branch": origin.branch,
                "default_branch": origin.default_branch,
                "sha": origin.sha,
            },
            text=f"On branch {where}",
            sandbox=box.record_sandbox(),
        )

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        raise NotImplementedError("prepare begins before there is a repository")


def _finished(box: Box, url: str, branch: str) -> remotes.Origin | None:
    """The record of a clone that was finished before, if it is this one."""
    origin = remotes.recall(box.workspace)
    if origin is None or not prepared(box.workspace.git_dir):
        return None
    if origin.url != url or branch not in ("", origin.branch):
        raise Declined(
            f"This workspace holds {origin.url} already.", code="other_repository", url=origin.url, branch=origin.branch
        )
    Git(box)
    return origin


def _clone(box: Box, url: str, branch: str) -> remotes.Origin:
    remotes.forget(box.workspace)
    _empty(box)
    box.reach(url)
    broker = Broker(url, cancelled=box.cancelled)
    with broker.open():
        box.log(f"Fetching from {url}\n")
        default_branch = broker.refresh()
        branches = broker.branches()
        name = branch or default_branch or next(iter(branches), "main")
        if branches and name not in branches:
            raise Declined(
                f"The repository has no branch {name}.", code="unknown_branch", branches=sorted(branches)[:100]
            )
        check_name(name, field="branch")
        _init(box, name)
        git = Git(box)
        receive(git, broker)
    git.out("config", "remote.origin.url", url, write=True)
    git.out("config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*", write=True)
    sha = branches.get(name, "")
    if sha:
        if default_branch in branches:
            head = f"refs/remotes/origin/{default_branch}"
            git.out("symbolic-ref", "refs/remotes/origin/HEAD", head, write=True)
        git.out(
            "checkout", "--quiet", "--no-recurse-submodules", "--track", "-B", name, f"refs/remotes/origin/{name}", "--",
            write=True,
        )  # fmt: skip
    origin = remotes.Origin(url=url, branch=name, default_branch=default_branch, sha=sha)
    remotes.record(box.workspace, origin)
    return origin


def _empty(box: Box) -> None:
    """Removes what a half-done attempt left. By the sandbox, so that no link leads out of the workspace."""
    folders = [str(box.workspace.tree), str(box.workspace.git_dir)]
    for argv in (["chmod", "-R", "u+rwX", *folders], ["find", "-P", *folders, "-mindepth", "1", "-delete"]):
        done = box.run(argv, cwd=box.workspace.tree, profile="git", stream=False)
        if done.exit_code != 0 and argv[0] == "find":
            raise ToolFailed(f"The workspace could not be emptied: {last_line(done.stderr)}")


def _init(box: Box, branch: str) -> None:
    place = box.workspace
    words = ("init", "--quiet", "--template=", f"--initial-branch={branch}", f"--separate-git-dir={place.git_dir}")
    done = box.run(
        unplaced_command(*words, str(place.tree)), cwd=place.tree, env=environment(), profile="git", stream=False
    )
    if done.exit_code != 0:
        raise ToolFailed(f"git init failed: {last_line(done.stderr)}")


PREPARE = register(Prepare())
