"""git.status, git.diff, git.log, git.show: what is there. Nothing is changed."""

import re
from collections.abc import Mapping
from typing import Any

from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.hardening import DIFF_OPTIONS
from tools.builtin.git.refs import PATH_SCHEMA, REF_SCHEMA, check_path, check_ref
from tools.builtin.git.text import ENTRIES_MAX, diffstat, last_line, numstat, plural, records, unquote
from tools.builtin.git.tool import GitTool, typed
from tools.errors import InvalidArguments
from tools.spec import Effect, Result

_LOG_FIELDS = ("%H", "%P", "%an", "%ae", "%aI", "%D", "%s")
_PATHS: dict[str, Any] = {"type": "array", "items": PATH_SCHEMA, "maxItems": 100, "default": []}


class Status(GitTool):
    name = "git.status"
    summary = "The branch, how far it is from the remote, and which files are changed, staged or untracked."
    effect = Effect.READ
    examples = ({},)
    schema = {"type": "object", "properties": {}, "additionalProperties": False}

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return typed("status")

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        lines = git.out(
            "status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--ignore-submodules=all"
        ).splitlines()
        branch, sha = "", ""
        entries: list[dict[str, Any]] = []
        for line in lines:
            if line.startswith("# branch.oid "):
                sha = line.removeprefix("# branch.oid ").replace("(initial)", "")
            elif line.startswith("# branch.head "):
                branch = line.removeprefix("# branch.head ").replace("(detached)", "")
            else:
                entry = _status_entry(line)
                if entry is not None:
                    entries.append(entry)
        ahead, behind = _distance(git, branch)
        data = {
            "branch": branch,
            "sha": sha,
            "ahead": ahead,
            "behind": behind,
            "clean": not entries,
            "count": len(entries),
            "entries": entries[:ENTRIES_MAX],
            "merging": (git.workspace.git_dir / "MERGE_HEAD").is_file(),
        }
        where = f"On branch {branch}" if branch else f"Detached at {sha[:10]}"
        state = "clean" if not entries else plural(len(entries), "changed file")
        shown = [f"{entry['index']}{entry['worktree']} {entry['path']}" for entry in entries[:ENTRIES_MAX]]
        heading = where + (f", {ahead} ahead and {behind} behind origin/{branch}" if ahead is not None else "")
        return Result(ok=True, summary=f"{where}: {state}.", data=data, text="\n".join([heading, state, *shown]))


def _status_entry(line: str) -> dict[str, Any] | None:
    """An entry of `--porcelain=v2`: path, index and worktree letters ("." unchanged, "?" untracked, "U" unmerged)."""
    kind, _, rest = line.partition(" ")
    if kind == "?":
        return {"path": unquote(rest), "index": "?", "worktree": "?"}
    fields = {"1": 8, "2": 9, "u": 10}.get(kind)
    if fields is None:
        return None
    parts = line.split(" ", fields)
    if len(parts) <= fields:
        return None
    path, _, original = parts[fields].partition("\t")
    entry = {"path": unquote(path), "index": parts[1][:1], "worktree": parts[1][1:2]}
    if original:
        entry["original_path"] = unquote(original)
    return entry


def _distance(git: Git, branch: str) -> tuple[int | None, int | None]:
    """Commits ahead of and behind origin's branch of the same name; None where there is none."""
    if not branch:
        return None, None
    done = git.run("rev-list", "--left-right", "--count", f"refs/heads/{branch}...refs/remotes/origin/{branch}", "--")
    counts = re.fullmatch(r"(\d+)\s+(\d+)", done.stdout.strip())
    return (int(counts[1]), int(counts[2])) if counts else (None, None)


class Diff(GitTool):
    name = "git.diff"
    summary = "Changes: of the work tree, of what is staged, or between two commits."
    effect = Effect.READ
    examples = ({},)
    schema = {
        "type": "object",
        "properties": {
            "staged": {"type": "boolean", "default": False, "description": "What the next commit would hold."},
            "from_ref": {**REF_SCHEMA, "description": "Compare from this commit on (default: the last commit)."},
            "to_ref": {**REF_SCHEMA, "description": "Compare to this commit (default: the work tree)."},
            "paths": _PATHS,
            "stat_only": {"type": "boolean", "default": False, "description": "Only which files, without the lines."},
        },
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        for field in ("from_ref", "to_ref"):
            if field in arguments:
                check_ref(arguments[field], field=field)
        if "to_ref" in arguments and ("from_ref" not in arguments or arguments.get("staged")):
            raise InvalidArguments("to_ref needs from_ref, and no staged.", field="arguments.to_ref")
        _check_paths(arguments)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return typed(
            "diff",
            "--stat" if arguments.get("stat_only") else "",
            "--cached" if arguments.get("staged") else "",
            arguments.get("from_ref", ""),
            arguments.get("to_ref", ""),
            *_after_dashes(arguments),
        )

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        words = ["diff", *DIFF_OPTIONS, "--numstat"]
        if not arguments.get("stat_only"):
            words.append("--patch")
        if arguments.get("staged"):
            words.append("--cached")
        words += [git.commit(arguments[field]) for field in ("from_ref", "to_ref") if field in arguments]
        done = git.run(*words, "--", *arguments.get("paths", []))
        return _diff_result(git, done.stdout, done.exit_code, done.ended_by, done.stderr, done.truncated_bytes)


def _diff_result(git: Git, stdout: str, exit_code: int | None, ended_by: str, stderr: str, cut: int) -> Result:
    if exit_code != 0 and ended_by != "output_limit":
        raise Declined(f"git refused: {last_line(stderr)}", code="git_failed", exit_code=exit_code)
    stat, patch = split_patch(stdout)
    entries = numstat(stat)
    summary = diffstat(entries) if entries else "No changes"
    if ended_by or cut:
        summary += "; the output was cut"
    data = {"count": len(entries), "files": entries[:ENTRIES_MAX], "truncated": bool(ended_by or cut)}
    text = "\n".join([summary, *(_stat_line(entry) for entry in entries[:ENTRIES_MAX]), "", patch]).rstrip()
    return Result(ok=True, summary=f"{summary}.", data=data, text=text, truncated_bytes=cut, exit_code=exit_code)


def split_patch(stdout: str) -> tuple[list[str], str]:
    """Lines of `--numstat` and the patch that stands behind them."""
    if stdout.startswith("diff --"):
        return [], stdout
    stat, _, patch = stdout.partition("\n\n")
    return stat.splitlines(), patch


def _stat_line(entry: Mapping[str, Any]) -> str:
    if entry["added"] is None:
        return f"  {entry['path']} (binary)"
    return f"  {entry['path']} +{entry['added']} -{entry['removed']}"


class Log(GitTool):
    name = "git.log"
    summary = "Commits, newest first."
    effect = Effect.READ
    examples = ({},)
    schema = {
        "type": "object",
        "properties": {
            "ref": {**REF_SCHEMA, "description": "Where to start (default: HEAD)."},
            "exclude_ref": {**REF_SCHEMA, "description": "Leave out what this commit already holds."},
            "max_count": {"type": "integer", "minimum": 1, "maximum": 200, "default": 20},
            "paths": _PATHS,
        },
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        for field in ("ref", "exclude_ref"):
            if field in arguments:
                check_ref(arguments[field], field=field)
        _check_paths(arguments)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        exclude = arguments.get("exclude_ref")
        return typed(
            "log",
            f"--max-count={arguments.get('max_count', 20)}",
            arguments.get("ref", "HEAD"),
            f"^{exclude}" if exclude else "",
            *_after_dashes(arguments),
        )

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        start = git.commit(arguments.get("ref", "HEAD"))
        words = [start]
        if "exclude_ref" in arguments:
            words.append(f"^{git.commit(arguments['exclude_ref'])}")
        commits = read_log(git, *words, max_count=arguments.get("max_count", 20), paths=arguments.get("paths", []))
        text = "\n".join(log_line(commit) for commit in commits)
        return Result(ok=True, summary=f"{plural(len(commits), 'commit')}.", data={"commits": commits}, text=text)


def read_log(
    git: Git, *revisions: str, max_count: int, paths: list[str] | None = None, bare: bool = False
) -> list[dict[str, Any]]:
    """Commits as {sha, parents, author, email, date (ISO 8601), refs, subject}; `revisions` are full ids, `^` before
    those to leave out."""
    words = ["log", f"--max-count={max_count}", "--no-show-signature", "--no-notes", "--no-mailmap", "--no-color"]
    layout, parse = records(_LOG_FIELDS)
    stdout = git.out(*words, "--decorate=short", f"--format={layout}", *revisions, "--", *(paths or []), bare=bare)
    return [
        {
            "sha": sha,
            "parents": parents.split(),
            "author": author,
            "email": email,
            "date": date,
            "refs": [ref for ref in refs.split(", ") if ref],
            "subject": subject,
        }
        for sha, parents, author, email, date, refs, subject in parse(stdout)
    ]


def log_line(commit: Mapping[str, Any]) -> str:
    """A commit in one line."""
    refs = f" ({', '.join(commit['refs'])})" if commit["refs"] else ""
    return f"{commit['sha'][:10]} {commit['date'][:10]} {commit['author']}: {commit['subject']}{refs}"


class Show(GitTool):
    name = "git.show"
    summary = "A commit with its changes, or a file as it was at a commit."
    effect = Effect.READ
    examples = ({"ref": "HEAD"},)
    schema = {
        "type": "object",
        "properties": {
            "ref": {**REF_SCHEMA, "default": "HEAD"},
            "path": {**PATH_SCHEMA, "description": "The file at that commit, instead of the commit."},
        },
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        check_ref(arguments.get("ref", "HEAD"), field="ref")
        if "path" in arguments:
            check_path(arguments["path"], field="path")

    def describe(self, arguments: Mapping[str, Any]) -> str:
        ref, path = arguments.get("ref", "HEAD"), arguments.get("path")
        return typed("show", f"{ref}:{path}" if path else ref)

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        sha = git.commit(arguments.get("ref", "HEAD"))
        if "path" in arguments:
            return self._file(git, sha, arguments["path"].removeprefix("./"))
        done = git.run(
            "show", *DIFF_OPTIONS, "--no-show-signature", "--no-notes", "--no-mailmap",
            "--format=commit %H%nAuthor: %an <%ae>%nDate:   %aI%n%n%w(0,4,4)%B%w(0,0,0)", "--stat=120", "--patch",
            sha, "--",
        )  # fmt: skip
        commit = read_log(git, sha, max_count=1)[0]
        cut = bool(done.truncated_bytes or done.ended_by)
        return Result(
            ok=True,
            summary=log_line(commit),
            data={"commit": commit, "truncated": cut},
            text=done.stdout,
            truncated_bytes=done.truncated_bytes,
        )

    def _file(self, git: Git, sha: str, path: str) -> Result:
        done = git.run("cat-file", "blob", f"{sha}:{path}")
        if done.exit_code != 0 and done.ended_by != "output_limit":
            raise Declined(f"There is no file {path} at {sha[:10]}.", code="no_such_file", path=path, sha=sha)
        cut = bool(done.truncated_bytes or done.ended_by)
        return Result(
            ok=True,
            summary=f"{path} at {sha[:10]}.",
            data={"path": path, "sha": sha, "truncated": cut},
            text=done.stdout,
            truncated_bytes=done.truncated_bytes,
        )


def _check_paths(arguments: Mapping[str, Any]) -> None:
    for path in arguments.get("paths", []):
        check_path(path, field="paths")


def _after_dashes(arguments: Mapping[str, Any]) -> list[str]:
    return ["--", *arguments["paths"]] if arguments.get("paths") else []
