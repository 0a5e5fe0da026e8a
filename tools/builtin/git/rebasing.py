"""git.rebase."""

from collections.abc import Mapping
from typing import Any

from tools.builtin.git import remotes
from tools.builtin.git.aside import aside
from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.hardening import DIFF_OPTIONS
from tools.builtin.git.locks import exclusive
from tools.builtin.git.merging import locate
from tools.builtin.git.reading import log_line, read_log
from tools.builtin.git.refs import BRANCH_SCHEMA, REF_SCHEMA, check_name, check_ref
from tools.builtin.git.staging import refuse_submodules
from tools.builtin.git.text import ENTRIES_MAX, bounded, diffstat, last_line, numstat, plural, unquote
from tools.builtin.git.tool import GitTool, typed, undo_by_reset
from tools.builtin.git.unfinished import interrupted, rebasing, take_back
from tools.errors import ToolFailed
from tools.spec import Box, Effect, Result, Risk, RiskScore

_COMMITS_SHOWN = 100


class Rebase(GitTool):
    name = "git.rebase"
    summary = (
        "Move a branch's own commits (the current branch's, where none is named) on top of another branch or commit. "
        "On a conflict everything is taken back; merge commits are left out, and so is what is there already."
    )
    effect = Effect.ONCE
    writes = True
    undone_by = "`git.reset` to `data.before`"
    examples = ({"onto": "origin/main", "branch": "fix/rounding"},)
    schema = {
        "type": "object",
        "properties": {
            "onto": {**REF_SCHEMA, "description": "What the commits are put on top of, such as origin/main."},
            "branch": {**BRANCH_SCHEMA, "description": "The branch to move; it is checked out first."},
        },
        "required": ["onto"],
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        check_ref(arguments["onto"], field="onto")
        if "branch" in arguments:
            check_name(arguments["branch"], field="branch")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        reasons = ("rewrites the branch's commits under new ids", "only in the job's own workspace; nothing leaves it")
        return RiskScore(level=Risk.MEDIUM, reasons=reasons)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return typed("rebase", arguments["onto"], arguments.get("branch", ""))

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"branch", "sha", "onto"}: what is moved, from where, on top of what. A rebase that died counts as not begun."""
        git = Git(box)
        branch, sha = _moving(arguments, git)
        return {"branch": branch, "sha": sha, "onto": git.find(locate(git, arguments["onto"]))}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        git = Git(box)
        branch, sha = _moving(arguments, git)
        onto = git.find(locate(git, arguments["onto"]))
        if not sha or not onto:
            return "There is no such commit: this would fail."
        if git.ancestor(onto, sha):
            return "It stands on top of that already: nothing would move."
        moving = _own_commits(git, onto, sha)
        words = ["diff", "--numstat", *DIFF_OPTIONS, f"{onto}...{sha}", "--"]
        stat = numstat(git.run(*words, bare=True).stdout.splitlines())
        lines = [
            f"{branch or 'HEAD'}: {sha[:10]}, on top of {onto[:10]}",
            f"{_counted(moving)} would move, {diffstat(stat)}",
            *(f"  {log_line(commit)}" for commit in moving[:_COMMITS_SHOWN]),
        ]
        merges = int(git.out("rev-list", "--count", "--merges", sha, f"^{onto}", "--").strip() or 0)
        if merges:
            lines.append(f"{plural(merges, 'merge commit')} would be left out: the history becomes one line.")
        if len(moving) <= _COMMITS_SHOWN:
            lines += _conflicts(git, onto, [commit["sha"] for commit in reversed(moving)])
        return bounded("\n".join(lines))

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        refuse_submodules(git)
        if (git.workspace.git_dir / "MERGE_HEAD").exists():
            raise Declined("A merge is unfinished: resolve and commit it, or abort it.", code="merge_unfinished")
        branch, before = _moving(arguments, git)
        if not before:
            raise Declined(f"There is no branch {branch!r} here.", code="unknown_ref", ref=branch)
        onto = git.commit(locate(git, arguments["onto"]))
        came_from = git.current_branch() or git.head()
        done = git.run(
            "rebase", "--quiet", "--merge", "--no-verify", "--no-autostash", "--no-autosquash", "--no-fork-point",
            "--no-rerere-autoupdate", "--no-gpg-sign", "--no-stat", onto, *([branch] if branch else []),
            write=True,
            env={"GIT_REFLOG_ACTION": _mark(git.box)},
        )  # fmt: skip
        if done.exit_code == 0:
            return _rebased(git, branch, before, onto)
        if not rebasing(git.workspace):
            said = done.stderr or done.stdout
            raise Declined(f"git did not rebase: {last_line(said)}", code="rebase_refused", text=said)
        listed = git.out("diff", "--name-only", "--diff-filter=U", "--").splitlines()
        conflicts = [unquote(line) for line in listed][:ENTRIES_MAX]
        stopped = git.find("REBASE_HEAD")
        take_back(git)
        if came_from not in (branch, before):
            git.run("checkout", "--quiet", "--no-guess", "--no-recurse-submodules", came_from, "--", write=True)
        raise _conflict(conflicts, stopped, done.stderr or done.stdout, done.exit_code)

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        return undo_by_reset(data)

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        """By the branch: does it stand on top of `onto` with every change that it had?

        Raises:
            ToolFailed: it stands there, but with other changes, and its log does not say that this step moved it.
        """
        git = Git(box)
        # The lost attempt may still hold it; a rebase that is under way after that has no process, and is no effect:
        # the next operation in this workspace takes it back.
        with exclusive(remotes.lock_path(box.workspace), what="this workspace's repository", cancelled=box.cancelled):
            if rebasing(box.workspace):
                return None
            branch, sha = _moving(arguments, git)
            onto = target_state.get("onto") or git.find(locate(git, arguments["onto"]))
            before = target_state.get("sha") or ""
            if not sha or not onto or not git.ancestor(onto, sha):
                return None
            if before and before != sha and not (_logged(git, branch, box) or _holds_changes(git, before, sha)):
                raise ToolFailed(f"{branch or 'HEAD'} stands on top of {onto[:10]}, but not with the changes it had.")
            return _rebased(git, branch, before or sha, onto)


def _moving(arguments: Mapping[str, Any], git: Git) -> tuple[str, str]:
    """The branch ("" for a detached HEAD) and the commit ("" for none) that a rebase moves, or moved before it died."""
    began_branch, began = interrupted(git.workspace)
    branch = arguments.get("branch") or (began_branch if began else git.current_branch())
    if branch:
        return str(branch), git.branch(branch)
    return "", began or git.head()


def _own_commits(git: Git, onto: str, sha: str) -> list[dict[str, Any]]:
    """Commits of `sha` without a like change in `onto`, newest first, one more than is shown at most."""
    listed = git.out(
        "rev-list", "--cherry-pick", "--right-only", "--no-merges", f"--max-count={_COMMITS_SHOWN + 1}",
        f"{onto}...{sha}", "--",
    ).split()  # fmt: skip
    return read_log(git, "--no-walk=unsorted", *listed, max_count=_COMMITS_SHOWN + 1, bare=True) if listed else []


def _conflicts(git: Git, onto: str, commits: list[str]) -> list[str]:
    """Lines that name the first commit that does not fit, by picking them beside the workspace; none where all do."""
    if not commits:
        return []
    with aside(git, onto) as place:
        done = place.run("cherry-pick", "--allow-empty", "--keep-redundant-commits", *commits)
        if done.exit_code == 0:
            return []
        conflicts, stopped = place.conflicts(), place.run("rev-parse", "--verify", "--quiet", "CHERRY_PICK_HEAD")
    at = f" at {stopped.stdout.strip()[:10]}" if stopped.stdout.strip() else ""
    return (
        ["", f"{plural(len(conflicts), 'file')} would be in conflict{at}:", *(f"  {one}" for one in conflicts)]
        if conflicts
        else []
    )


def _counted(commits: list[dict[str, Any]]) -> str:
    if len(commits) > _COMMITS_SHOWN:
        return f"More than {_COMMITS_SHOWN} commits"
    return plural(len(commits), "commit")


def _holds_changes(git: Git, before: str, after: str) -> bool:
    """Whether every commit of `before` has one with the same patch id behind `after`."""
    words = ("--cherry-pick", "--right-only", "--no-merges", "--max-count=1", f"{after}...{before}", "--")
    return not git.out("rev-list", *words).strip()


def _mark(box: Box) -> str:
    return f"rebase {box.call_id}".strip()


def _logged(git: Git, branch: str, box: Box) -> bool:
    """Whether the branch's own log says that this step's rebase ended there."""
    if not box.call_id or not branch:
        return False
    done = git.run("log", "--walk-reflogs", "--max-count=200", "--format=%gs", f"refs/heads/{branch}", "--")
    return any(line.startswith(f"{_mark(box)} (finish)") for line in done.stdout.splitlines())


def _conflict(conflicts: list[str], stopped: str, said: str, exit_code: int | None) -> Declined:
    where = f" at {stopped[:10]}" if stopped else ""
    if not conflicts:
        return Declined(
            f"git did not rebase{where}: {last_line(said)}; it was taken back.",
            code="rebase_refused",
            text=said,
            exit_code=exit_code,
        )
    return Declined(
        f"{plural(len(conflicts), 'file')} in conflict{where}; the rebase was taken back.",
        code="conflict",
        error_code="conflict",
        text="\n".join(["In conflict:", *conflicts]),
        exit_code=exit_code,
        conflicts=conflicts,
        stopped_at=stopped,
    )


def _rebased(git: Git, branch: str, before: str, onto: str) -> Result:
    after = git.branch(branch) if branch else git.head()
    count = int(git.out("rev-list", "--count", after, f"^{onto}", "--").strip() or 0)
    how = "already there" if after == before else "fast-forward" if after == onto else "rebased"
    return Result(
        ok=True,
        summary=f"{branch or 'HEAD'} stands on top of {onto[:10]} with {plural(count, 'commit')} ({how}).",
        data={"sha": after, "before": before, "onto": onto, "branch": branch, "how": how, "commits": count},
        text=f"{how}: {before[:10]} -> {after[:10]}, on top of {onto[:10]}",
        exit_code=0,
    )
