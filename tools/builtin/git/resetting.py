"""git.reset."""

import secrets
from collections.abc import Mapping
from typing import Any

from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.hardening import DIFF_OPTIONS
from tools.builtin.git.reading import log_line, read_log
from tools.builtin.git.refs import PATH_SCHEMA, REF_SCHEMA, check_path, check_ref
from tools.builtin.git.staging import refuse_submodules
from tools.builtin.git.text import bounded, diffstat, last_line, numstat, plural
from tools.builtin.git.tool import GitTool, typed
from tools.errors import InvalidArguments, ToolFailed
from tools.spec import Box, Completed, Effect, Result, Risk, RiskScore

KEPT = "refs/countersign/kept/"
_COMMITS_SHOWN = 50
_MODES = {
    "soft": "the files and what is staged stay as they are",
    "mixed": "the files stay; nothing is staged any more",
    "keep": "changes that are not committed stay, or it is refused",
    "hard": "changes that are not committed are taken away",
}


class Reset(GitTool):
    name = "git.reset"
    summary = (
        "Move the current branch to another commit, or with paths only take files out of what is staged. mode: soft "
        "(files and index stay), mixed (files stay), keep (refuses to lose changes), hard (takes changes away; they are "
        "kept as a stash-like commit named in the result)."
    )
    effect = Effect.ONCE
    writes = True
    undone_by = (
        "`git.reset` to `data.before` with mode keep; changes that a hard reset took: `git.stash` apply `data.kept`"
    )
    schema = {
        "type": "object",
        "properties": {
            "ref": {**REF_SCHEMA, "default": "HEAD"},
            "mode": {"enum": list(_MODES), "default": "mixed"},
            "paths": {"type": "array", "items": PATH_SCHEMA, "minItems": 1, "maxItems": 500},
        },
        "additionalProperties": False,
    }
    examples = ({"paths": ["notes.txt"]}, {"ref": "HEAD~1", "mode": "soft"}, {"ref": "origin/main", "mode": "hard"})

    def check(self, arguments: Mapping[str, Any]) -> None:
        check_ref(arguments.get("ref", "HEAD"), field="ref")
        if "paths" in arguments and "mode" in arguments:
            raise InvalidArguments("paths are only taken out of what is staged: no mode.", field="arguments.mode")
        for path in arguments.get("paths", []):
            check_path(path, field="paths")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        if arguments.get("mode") == "hard":
            reasons = ("takes away changes that are not committed", "only in the job's own workspace")
            return RiskScore(level=Risk.MEDIUM, reasons=reasons)
        return RiskScore(level=Risk.LOW, reasons=("changes only the job's own workspace, and no file's content",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        ref = arguments.get("ref", "HEAD")
        if "paths" in arguments:
            return typed("reset", ref, "--", *arguments["paths"])
        return typed("reset", f"--{_mode(arguments)}", ref)

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"head", "branch", "sha"}: what moves, from where, to where."""
        git = Git(box)
        return {
            "head": git.head(),
            "branch": git.current_branch(),
            "sha": git.find(arguments.get("ref", "HEAD")),
        }

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        git = Git(box)
        head, sha = git.head(), git.find(arguments.get("ref", "HEAD"))
        if not head or not sha:
            return "There is no such commit: this would fail."
        if "paths" in arguments:
            stat = _stat(git, "--cached", sha, paths=arguments["paths"])
            return bounded("\n".join(["Taken out of what is staged:", diffstat(stat), *_lines(stat)]))
        lines = [f"{git.current_branch() or 'HEAD'}: {head[:10]} -> {sha[:10]}; {_MODES[_mode(arguments)]}"]
        gone = read_log(git, head, f"^{sha}", max_count=_COMMITS_SHOWN + 1, bare=True)
        if gone:
            many = len(gone) > _COMMITS_SHOWN
            count = f"more than {_COMMITS_SHOWN} commits" if many else plural(len(gone), "commit")
            lines += [f"{count} would leave the branch:", *(f"  {log_line(one)}" for one in gone[:_COMMITS_SHOWN])]
        if _mode(arguments) == "hard":
            stat = _stat(git, head)
            lines += ["Changes that are not committed and would be taken away:", diffstat(stat), *_lines(stat)]
        elif head != sha:
            stat = _stat(git, sha, head)
            lines += ["Between the two commits:", diffstat(stat), *_lines(stat)]
        return bounded("\n".join(lines))

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        refuse_submodules(git)
        before, sha = git.commit("HEAD"), git.commit(arguments.get("ref", "HEAD"))
        if "paths" in arguments:
            return self._unstage(git, before, sha, arguments["paths"])
        mode = _mode(arguments)
        if mode == "keep":
            git.run("update-index", "-q", "--refresh", write=True)
        kept = _keep_changes(git) if mode == "hard" else ""
        done = git.run("reset", "--quiet", "--no-recurse-submodules", f"--{mode}", sha, "--", write=True)
        if done.exit_code != 0:
            raise Declined(
                f"git did not reset: {last_line(done.stderr)}",
                code="reset_refused",
                text=done.stderr,
                exit_code=done.exit_code,
            )
        return _moved(git, before, sha, mode, kept)

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        """By what is there: the branch stands where it was to go, and what was to be gone is."""
        git = Git(box)
        before, head = target_state.get("head"), git.head()
        sha = target_state.get("sha")
        if not sha:
            raise ToolFailed("Where it was to go is not known.")
        if "paths" in arguments:
            return (
                _unstaged(before or head, sha, arguments["paths"])
                if not _stat(git, "--cached", sha, paths=arguments["paths"])
                else None
            )
        mode = _mode(arguments)
        if head != sha:
            return None
        if (mode == "hard" and _stat(git, sha)) or (mode == "mixed" and _stat(git, "--cached", sha)):
            return None
        return _moved(git, before or head, sha, mode, "")

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        before = data.get("before")
        if "paths" in arguments or not before or before == data.get("sha"):
            return None
        mode = data.get("mode")
        return {"tool": self.name, "arguments": {"ref": before, "mode": mode if mode in ("soft", "mixed") else "keep"}}

    def _unstage(self, git: Git, before: str, sha: str, paths: list[str]) -> Result:
        done = git.run("reset", "--quiet", "--no-recurse-submodules", sha, "--", *paths, write=True)
        if done.exit_code != 0:
            raise Declined(f"git did not reset: {last_line(done.stderr)}", code="reset_refused", text=done.stderr)
        return _unstaged(before, sha, paths)


def _mode(arguments: Mapping[str, Any]) -> str:
    return str(arguments.get("mode", "mixed"))


def _keep_changes(git: Git) -> str:
    """A commit that holds what is not committed, under a name of its own so that it stays; "" where there is nothing."""
    done = git.run("stash", "create", write=True)
    if done.exit_code != 0 and git.run("ls-files", "--unmerged").stdout:
        done = _create_unmerged(git)
    sha = done.stdout.strip()
    if done.exit_code != 0:
        raise Declined(
            f"What is not committed could not be kept: {last_line(done.stderr)}", code="not_kept", text=done.stderr
        )
    if sha:
        git.out("update-ref", f"{KEPT}{sha}", sha, write=True)
    return sha


def _create_unmerged(git: Git) -> Completed:
    """As `stash create`, of an unfinished merge: the files as they stand there, by an index of its own."""
    path = git.workspace.scratch / f"index-{secrets.token_hex(8)}"
    env = {"GIT_INDEX_FILE": str(path)}
    try:
        git.tool("cp", str(git.workspace.git_dir / "index"), str(path))
        git.out("add", "--update", ".", write=True, env=env)
        return git.run("stash", "create", write=True, env=env)
    finally:
        git.tool("rm", "-f", str(path), f"{path}.lock")


def _stat(git: Git, *what: str, paths: list[str] | None = None) -> list[dict[str, Any]]:
    return numstat(git.out("diff", "--numstat", *DIFF_OPTIONS, *what, "--", *(paths or [])).splitlines())


def _lines(stat: list[dict[str, Any]]) -> list[str]:
    return [f"  {entry['path']} +{entry['added']} -{entry['removed']}" for entry in stat[:200]]


def _moved(git: Git, before: str, sha: str, mode: str, kept: str) -> Result:
    branch = git.current_branch()
    more = f" What was not committed is kept as {kept[:10]}." if kept else ""
    return Result(
        ok=True,
        summary=f"{branch or 'HEAD'} stands at {sha[:10]} ({mode}).{more}",
        data={"sha": sha, "before": before, "branch": branch, "mode": mode, "kept": kept},
        text=f"{mode}: {before[:10]} -> {sha[:10]}.{more}",
        exit_code=0,
    )


def _unstaged(before: str, sha: str, paths: list[str]) -> Result:
    return Result(
        ok=True,
        summary=f"{plural(len(paths), 'path')} taken out of what is staged.",
        data={"sha": sha, "before": before, "paths": paths},
        exit_code=0,
    )
