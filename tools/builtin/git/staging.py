"""git.add and git.commit."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tools.builtin.git import lfs
from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.hardening import DIFF_OPTIONS, identity
from tools.builtin.git.quarantine import staged_tree
from tools.builtin.git.reading import split_patch
from tools.builtin.git.refs import MESSAGE_SCHEMA, PATH_SCHEMA, check_message, check_path
from tools.builtin.git.text import ENTRIES_MAX, bounded, diffstat, last_line, numstat, plural, unquote
from tools.builtin.git.tool import GitTool, one_line, typed
from tools.builtin.git.trailers import find_step, with_trailer
from tools.spec import Box, Effect, Result, Risk, RiskScore

_STATUS = {"A": "added", "M": "modified", "D": "deleted", "R": "renamed", "C": "copied", "T": "type", "U": "unmerged"}
_PREVIEW_CHARS = 48_000


class Add(GitTool):
    name = "git.add"
    summary = "Stage files (also deletions) for the next commit. Paths are literal; '.' is everything."
    effect = Effect.REPEATABLE
    writes = True
    undone_by = "`git.reset` with `paths`"
    examples = ({"paths": ["src/app.py"]},)
    schema = {
        "type": "object",
        "properties": {"paths": {"type": "array", "items": PATH_SCHEMA, "minItems": 1, "maxItems": 500}},
        "required": ["paths"],
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        for path in arguments["paths"]:
            check_path(path, field="paths")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("changes only what is staged in the job's own workspace",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return typed("add", "--", *arguments["paths"])

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        refuse_submodules(git)
        embedded = _embedded(git, arguments["paths"])
        if embedded:
            raise Declined(
                f"{embedded[0]} is a git repository of its own; its files cannot be added.",
                code="embedded_repository",
                paths=embedded,
            )
        lfs.refuse(git, arguments["paths"])
        done = git.run("add", "--", *arguments["paths"], write=True)
        if done.exit_code != 0:
            raise Declined(
                f"Nothing was added: {last_line(done.stderr)}",
                code="add_refused",
                text=done.stderr,
                exit_code=done.exit_code,
            )
        staged = staged_files(git)
        return Result(
            ok=True,
            summary=f"{plural(len(staged), 'file')} staged.",
            data={"count": len(staged), "staged": staged[:ENTRIES_MAX]},
            text="\n".join(f"{entry['change']}: {entry['path']}" for entry in staged[:ENTRIES_MAX]),
        )


def refuse_submodules(git: Git) -> None:
    """Raises Declined where a submodule is checked out: git would run commands by its own configuration there."""
    populated = git.populated_submodules()
    if populated:
        raise Declined(
            f"Submodules that are checked out are not supported: {populated[0]}.", code="submodule", paths=populated
        )


def _embedded(git: Git, paths: list[str]) -> list[str]:
    """Repositories of their own below the paths to add, which git would record as a bare link."""
    nested = git.nested_repositories()
    if not nested:
        return []
    wanted = [path.rstrip("/").removeprefix("./") or "." for path in paths]
    below = [
        folder
        for folder in nested
        if any(path == "." or folder == path or folder.startswith(f"{path}/") for path in wanted)
        or any(path.startswith(f"{folder}/") for path in wanted)
    ]
    if not below:
        return []
    ignored = git.run("check-ignore", "--", *below).stdout.splitlines()
    return sorted(set(below) - {unquote(line) for line in ignored})


def staged_files(git: Git) -> list[dict[str, str]]:
    """What the next commit would change: {path, change}."""
    stdout = git.out("diff", "--cached", "--name-status", *DIFF_OPTIONS, "--")
    entries = []
    for line in stdout.splitlines():
        letter, _, rest = line.partition("\t")
        if letter[:1] in _STATUS and rest:
            entries.append({"path": unquote(rest.rpartition("\t")[2]), "change": _STATUS[letter[:1]]})
    return entries


class Commit(GitTool):
    name = "git.commit"
    summary = "Commit what is staged. Fails when nothing is staged: use git.add first."
    effect = Effect.ONCE
    writes = True
    undone_by = "`git.reset` to the commit before, with mode soft; once it is pushed, `git.revert`"
    examples = ({"message": "Round to even\n\nAs the invoices do."},)
    schema = {
        "type": "object",
        "properties": {"message": MESSAGE_SCHEMA},
        "required": ["message"],
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        check_message(arguments["message"])

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("a commit in the job's own workspace; nothing leaves it",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return typed("commit", "-m", one_line(arguments["message"]))

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"head", "branch", "tree"}: the tree's id says exactly what would be committed."""
        git = Git(box)
        with staged_tree(git) as (tree, _):
            return {"head": git.head(), "branch": git.current_branch(), "tree": tree}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        git = Git(box)
        with staged_tree(git) as (tree, env):
            if not tree:
                return "There are unmerged files: nothing can be committed before they are resolved."
            base = git.head() or git.out("hash-object", "-t", "tree", "--stdin").strip()
            words = ["diff", *DIFF_OPTIONS, "--numstat", "--patch", base, tree, "--"]
            stat, patch = split_patch(git.run(*words, bare=True, env=env).stdout)
        entries = numstat(stat)
        if not entries:
            return "Nothing is staged: this commit would fail."
        name, email = identity()
        heading = f"Commit on {git.current_branch() or 'a detached HEAD'} by {name} <{email}>\n{diffstat(entries)}"
        return bounded(f"{heading}\n\n{arguments['message'].strip()}\n\n{patch}", _PREVIEW_CHARS)

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        merging = (git.workspace.git_dir / "MERGE_HEAD").exists()
        staged = git.run("diff", "--cached", "--quiet", *DIFF_OPTIONS, "--")
        if staged.exit_code == 0 and not merging:
            raise Declined("Nothing is staged, so there is nothing to commit.", code="nothing_staged")
        done = git.run(
            "commit", "--quiet", "--no-verify", "--no-gpg-sign", "--no-post-rewrite", "--no-status",
            "--cleanup=whitespace", "--file=-",
            write=True,
            stdin=with_trailer(arguments["message"], git.box.call_id).encode(),
        )  # fmt: skip
        if done.exit_code != 0:
            raise Declined(
                f"git did not commit: {last_line(done.stderr or done.stdout)}",
                code="commit_refused",
                text=done.stderr,
                exit_code=done.exit_code,
            )
        done_as = _committed(git, git.commit("HEAD"))
        return replace(done_as, data={**done_as.data, "before": _parent(git, done_as.data["sha"])})

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        before = data.get("before")
        return {"tool": "git.reset", "arguments": {"ref": before, "mode": "soft"}} if before else None

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        git = Git(box)
        sha = find_step(git, box.call_id)
        return _committed(git, sha) if sha else None


def _parent(git: Git, sha: str) -> str:
    return git.find(f"{sha}^1")


def _committed(git: Git, sha: str) -> Result:
    lines = git.out(
        "log",
        "--max-count=1",
        "--no-show-signature",
        "--no-notes",
        "--format=%s",
        "--numstat",
        *DIFF_OPTIONS,
        sha,
        "--",
    ).splitlines()
    files = numstat(lines[1:])
    branch = git.current_branch()
    subject = lines[0] if lines else ""
    return Result(
        ok=True,
        summary=f"Committed {sha[:10]} on {branch or 'a detached HEAD'}: {subject}",
        data={"sha": sha, "branch": branch, "subject": subject, "count": len(files), "files": files[:ENTRIES_MAX]},
        text=f"[{branch or 'detached HEAD'} {sha[:10]}] {subject}\n{diffstat(files)}",
        exit_code=0,
    )
