"""git.push: one branch to origin, forward only."""

import secrets
from collections.abc import Mapping
from typing import Any

from tools.builtin.git.broker import Broker, Pushed, from_scratch
from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.hardening import DIFF_OPTIONS
from tools.builtin.git.reading import log_line, read_log, split_patch
from tools.builtin.git.refs import BRANCH_SCHEMA, check_name, is_full_id
from tools.builtin.git.remotes import recall
from tools.builtin.git.text import bounded, diffstat, last_line, numstat, plural
from tools.builtin.git.tool import GitTool, typed
from tools.errors import ToolFailed
from tools.spec import Box, Effect, Result, Risk, RiskScore

_PREVIEW_CHARS = 64_000
_COMMITS_SHOWN = 50
_DEFAULT_BRANCHES = frozenset({"main", "master", "trunk"})


class Push(GitTool):
    name = "git.push"
    summary = "Push a branch to origin. Never overwrites: the remote branch must be behind the local one, or absent."
    effect = Effect.ONCE
    writes = True
    undone_by = "`git.restore_branch`, as `data.undo` has it"
    examples = ({"branch": "fix/rounding"}, {"branch": "main"})
    schema = {
        "type": "object",
        "properties": {
            "branch": {**BRANCH_SCHEMA, "description": "The local branch."},
            "remote_branch": {**BRANCH_SCHEMA, "description": "The branch at origin (default: the same name)."},
        },
        "required": ["branch"],
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        for field in ("branch", "remote_branch"):
            if field in arguments:
                check_name(arguments[field], field=field)

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        there = _there(arguments)
        leaves = "commits leave the workspace and others can see them"
        if there in _DEFAULT_BRANCHES:
            return RiskScore(level=Risk.HIGH, reasons=(leaves, f"{there} is the branch that others build on"))
        return RiskScore(level=Risk.MEDIUM, reasons=(leaves,))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        here, there = arguments["branch"], _there(arguments)
        return typed("push", "origin", here if here == there else f"{here}:{there}")

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"local_sha", "remote_ref", "remote_sha" ("" where absent), "url"}.

        Raises:
            ToolFailed: there is no such branch, no origin, or it cannot be asked.
        """
        git = Git(box)
        return push_state(arguments, git, broker_of(git, self.name))

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        git = Git(box)
        broker = broker_of(git, self.name)
        state = push_state(arguments, git, broker)
        local_sha, remote_ref, remote_sha = state["local_sha"], state["remote_ref"], state["remote_sha"]
        heading = [f"To {state['url']}", f"  {remote_ref}: {remote_sha[:10] or '(new branch)'} -> {local_sha[:10]}"]
        if remote_sha == local_sha:
            return "\n".join([*heading, "Nothing to push: the remote is there already."])
        with broker.open():
            broker.refresh()
            transfer(git, broker, f"refs/heads/{arguments['branch']}", local_sha)
            if remote_sha and not broker.ancestor(remote_sha, local_sha):
                return "\n".join([*heading, "This would be refused: the remote has commits that the branch has not."])
            answer = broker.push(local_sha, remote_ref, expected=remote_sha, dry_run=True)
        heading.append(f"  dry run: {flag_words(answer)}")
        return bounded("\n".join([*heading, *contents(git, local_sha, remote_sha)]), _PREVIEW_CHARS)

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        broker = broker_of(git, self.name)
        with broker.open():
            state = push_state(arguments, git, broker)
            local_sha, remote_ref, remote_sha = state["local_sha"], state["remote_ref"], state["remote_sha"]
            if remote_sha == local_sha:
                return _pushed(state, "already there")
            broker.refresh()
            transfer(git, broker, f"refs/heads/{arguments['branch']}", local_sha)
            if remote_sha and not broker.ancestor(remote_sha, local_sha):
                raise Declined(
                    f"{remote_ref} at origin has commits that {arguments['branch']} has not: fetch and merge first.",
                    code="not_fast_forward",
                    **state,
                )
            if remote_sha:
                broker.keep(remote_sha, remote_ref)
            answer = send(broker, state)
            if not answer.ok:
                raise Declined(
                    f"origin refused the push: {answer.detail.splitlines()[0]}",
                    code="push_refused",
                    text=answer.detail,
                    **state,
                )
        seen = f"refs/remotes/origin/{remote_ref.removeprefix('refs/heads/')}"
        git.run("update-ref", "--no-deref", seen, local_sha, write=True)
        return _pushed(state, "new branch" if not remote_sha else f"{remote_sha[:10]}..{local_sha[:10]}", answer.detail)

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        before, after, branch = data["remote_sha"], data["local_sha"], data["remote_branch"]
        if before == after:
            return None
        return {"tool": "git.restore_branch", "arguments": {"branch": branch, "sha": before, "expected": after}}

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        git = Git(box)
        broker = broker_of(git, self.name)
        with broker.open():
            state = dict(target_state) or push_state(arguments, git, broker)
            if broker.remote_sha(state["remote_ref"]) != state["local_sha"]:
                return None
        return _pushed(state, "found at the remote")


def transfer(git: Git, broker: Broker, ref: str, sha: str) -> None:
    """Brings the commit or tag `sha`, where `ref` (`refs/...`) stands, from the workspace into the broker, by a bundle.

    Raises:
        Declined: the ref moved meanwhile.
        ToolRefused: the commits are malformed.
        ToolFailed: the bundle could not be made.
    """
    if broker.holds(sha):
        return
    # What origin has need not travel; where the broker lost its copy everything does.
    for without in (["--not", "--remotes=origin"], []):
        name = f"out-{secrets.token_hex(8)}.bundle"
        path = git.workspace.scratch / name
        done = git.run("bundle", "create", "--quiet", "--version=2", str(path), ref, *without)
        if done.exit_code != 0:
            raise ToolFailed(f"git could not bundle the commits: {last_line(done.stderr)}", exit_code=done.exit_code)
        if git.object_at(ref) != sha:
            raise Declined(f"{ref} moved while it was being pushed.", code="ref_moved", ref=ref)
        with from_scratch(git.workspace.scratch, name) as bundle:
            if broker.accept(bundle, sha=sha):
                return
    raise ToolFailed("The commits to push build on commits that origin does not have.")


def send(broker: Broker, state: Mapping[str, Any]) -> Pushed:
    """Pushes `local_sha` to `remote_ref`, which stands at `remote_sha`; where the answer was lost, asks the remote
    whether it arrived.

    Raises:
        ToolFailed: it cannot be told, or did not arrive.
    """
    try:
        return broker.push(state["local_sha"], state["remote_ref"], expected=state["remote_sha"], dry_run=False)
    except ToolFailed:
        if broker.remote_sha(state["remote_ref"]) != state["local_sha"]:
            raise
        return Pushed(ok=True, flag="", detail="arrived, though the answer was lost")


def push_state(arguments: Mapping[str, Any], git: Git, broker: Broker) -> dict[str, Any]:
    """What a push of `branch` to `remote_branch` depends on, as `remote_state`. Raises Declined: there is no such branch."""
    local_sha = git.branch(arguments["branch"])
    if not local_sha:
        raise Declined(f"There is no branch {arguments['branch']!r} here.", code="unknown_ref", ref=arguments["branch"])
    return remote_state(broker, local_sha, f"refs/heads/{_there(arguments)}")


def remote_state(broker: Broker, local_sha: str, remote_ref: str) -> dict[str, Any]:
    """What a push depends on: {"local_sha", "remote_ref", "remote_sha" ("" where absent), "url"}. Asks the remote."""
    if not broker.git_dir.exists():
        with broker.open():
            pass
    return {
        "local_sha": local_sha,
        "remote_ref": remote_ref,
        "remote_sha": broker.remote_sha(remote_ref),
        "url": broker.url,
    }


def broker_of(git: Git, tool: str) -> Broker:
    """The broker of the remote that the workspace came from. tool: who asks.

    Raises:
        Declined: there is none.
        ToolRefused: the call's constraints do not let it be reached.
    """
    origin = recall(git.workspace)
    if origin is None:
        raise Declined("This workspace was not cloned from anywhere.", code="no_origin")
    git.box.reach(origin.url)
    return Broker(origin.url, cancelled=git.box.cancelled, tool=tool, credential=origin.credential)


def dropped(broker: Broker, sha: str, *held: str) -> list[str]:
    """Lines that name the commits of origin's `sha` which none of `held` holds; none where `sha` is "" or all are held."""
    lost = broker.behind(sha, *held, most=_COMMITS_SHOWN + 1) if sha else []
    if not lost:
        return []
    count = f"more than {_COMMITS_SHOWN} commits" if len(lost) > _COMMITS_SHOWN else plural(len(lost), "commit")
    shown = (f"  {one[:10]} {author}: {subject}" for one, author, subject in lost[:_COMMITS_SHOWN])
    return ["", f"{count} of origin would be dropped:", *shown]


def _there(arguments: Mapping[str, Any]) -> str:
    return str(arguments.get("remote_branch", arguments["branch"]))


def contents(git: Git, local_sha: str, remote_sha: str) -> list[str]:
    """The commits that would go, and what they change, as the remote will see them (no attributes of the tree)."""
    known = [f"^{remote_sha}"] if remote_sha and git.find(remote_sha) else ["--not", "--remotes=origin"]
    commits = read_log(git, local_sha, *known, max_count=_COMMITS_SHOWN + 1, bare=True)
    more = len(commits) > _COMMITS_SHOWN
    count = f"more than {_COMMITS_SHOWN} commits" if more else plural(len(commits), "commit")
    lines = ["", f"{count}:", *(f"  {log_line(commit)}" for commit in commits[:_COMMITS_SHOWN])]
    base = remote_sha if remote_sha and git.find(remote_sha) else _fork_point(git, local_sha)
    words = ["diff", *DIFF_OPTIONS, "--numstat", "--patch", base, local_sha, "--"]
    stat, patch = split_patch(git.run(*words, bare=True).stdout)
    entries = numstat(stat)
    shown = [f"  {entry['path']} {_change(entry)}" for entry in entries[:200]]
    return [*lines, "", f"{diffstat(entries)}:", *shown, "", patch]


def _fork_point(git: Git, sha: str) -> str:
    """Where the branch left origin's default branch, or the empty tree."""
    done = git.run("merge-base", sha, "refs/remotes/origin/HEAD")
    base = done.stdout.strip()
    if done.exit_code == 0 and is_full_id(base):
        return base
    return git.out("hash-object", "-t", "tree", "--stdin").strip()


def _change(entry: Mapping[str, Any]) -> str:
    return "(binary)" if entry["added"] is None else f"+{entry['added']} -{entry['removed']}"


def flag_words(answer: Pushed) -> str:
    """What a dry run said, in words."""
    words = {"*": "a new branch", " ": "fast-forward", "=": "up to date", "!": "would be refused"}
    return f"{words.get(answer.flag, answer.flag)} {answer.detail}"


def _pushed(state: Mapping[str, Any], how: str, said: str = "") -> Result:
    branch = state["remote_ref"].removeprefix("refs/heads/")
    return Result(
        ok=True,
        summary=f"origin's {branch} stands at {state['local_sha'][:10]} ({how}).",
        data={**state, "remote_branch": branch, "how": how},
        text="\n".join(part for part in (f"To {state['url']}", f"{branch}: {how}", said) if part),
        exit_code=0,
    )
