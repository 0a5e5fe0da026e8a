"""workspace.prepare: the remote's repository in the job's workspace, ready to work on."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tools.builtin.git import lfs, remotes
from tools.builtin.git.broker import Broker
from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.config_scan import prepared
from tools.builtin.git.fetching import receive
from tools.builtin.git.hardening import environment, unplaced_command
from tools.builtin.git.hosting.kinds import KINDS
from tools.builtin.git.refs import BRANCH_SCHEMA, check_name
from tools.builtin.git.text import last_line, plural, unquote
from tools.builtin.git.tool import GitTool, refusal, typed
from tools.errors import ToolFailed
from tools.registry import register
from tools.spec import Box, Effect, Result, Risk, RiskScore

CLONE = "git.clone"


class Prepare(GitTool):
    """Clones into a separate git directory. May be run again: it knows a finished clone, and begins a half-done one
    afresh."""

    name = "workspace.prepare"
    summary = "Clone the job's repository into its workspace."
    effect = Effect.REPEATABLE
    examples = ({"url": "https://example.org/shop.git", "branch": "main"},)
    needs_profile = "git"
    offered = False
    writes = True
    schema = {
        "type": "object",
        "properties": {
            "url": {"type": "string", "minLength": 1, "maxLength": 2000},
            "branch": {**BRANCH_SCHEMA, "minLength": 0, "description": "Default: the remote's own default branch."},
            "credential": {"type": "string", "maxLength": 63, "description": "The secret handle to go there with."},
            "hosting": {"enum": ["", *KINDS], "description": "What kind of forge it is, for pull requests."},
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
        url = remotes.check_url(arguments["url"])
        named = box.reach(url)
        remotes.check_host(url, named=named or not self.offered)
        wanted = remotes.Origin(
            url=url,
            branch=arguments.get("branch", ""),
            default_branch="",
            sha="",
            credential=arguments.get("credential", ""),
            hosting=arguments.get("hosting", ""),
        )
        with self._lock(box):
            try:
                origin = _finished(box, url, wanted.branch) or _clone(box, wanted)
                left = _left_out(Git(box)) if origin.sha else {}
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
                **left,
            },
            text="\n".join([f"On branch {where}", *_said(left)]),
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


def _clone(box: Box, wanted: remotes.Origin) -> remotes.Origin:
    url, branch = wanted.url, wanted.branch
    remotes.forget(box.workspace)
    _empty(box)
    broker = Broker(url, cancelled=box.cancelled, tool=CLONE, credential=wanted.credential)
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
    origin = replace(wanted, branch=name, default_branch=default_branch, sha=sha)
    remotes.record(box.workspace, origin)
    return origin


def _left_out(git: Git) -> dict[str, Any]:
    """What a clone does not bring, where the repository has such: {"submodules": paths, "lfs": files kept as pointers}."""
    staged = git.out("ls-files", "--stage").splitlines()
    modules = [unquote(line.partition("\t")[2]) for line in staged if line.startswith("160000 ")]
    pointers = 0
    if any(line.endswith("\t.gitattributes") or line.endswith("/.gitattributes") for line in staged):
        pointers = len(lfs.files(git))
    return {**({"submodules": modules[:100]} if modules else {}), **({"lfs": pointers} if pointers else {})}


def _said(left: Mapping[str, Any]) -> list[str]:
    lines = []
    if "submodules" in left:
        lines.append(f"Submodules are not fetched: {', '.join(left['submodules'][:20])}.")
    if "lfs" in left:
        lines.append(f"{plural(left['lfs'], 'file')} of Git LFS: there are pointers in their place.")
    return lines


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


class Clone(Prepare):
    """The same by name, for jobs without a repository: whoever plans says which."""

    name = CLONE
    summary = (
        "Clone a repository into the job's workspace, which must be empty. Its host must be one that this server's "
        "repositories have, that the setting GIT_HOSTS names, or that the rule in force does."
    )
    offered = True
    examples = ({"url": "https://git.example.org/team/shop.git", "branch": "main"},)

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.MEDIUM, reasons=("fetches from an address that the call itself names",))

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        url = remotes.check_url(arguments["url"])
        remotes.check_host(url, named=box.reach(url))
        origin = remotes.recall(box.workspace)
        if origin is not None and origin.url != url:
            return f"This would fail: the workspace holds {origin.url} already."
        return f"{url} would be cloned into the job's workspace."


PREPARE = register(Prepare())
register(Clone())
