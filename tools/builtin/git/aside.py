"""What a merge, a cherry-pick or a revert would make, worked out beside the workspace.

A repository of its own in the scratch folder, without files, sees the workspace's objects. The real git works there, so a
preview shows what will come, and a conflict never touches the work tree. Files that are missing count as unchanged for
git, so that only the index has to be read.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.hardening import DIFF_OPTIONS, command, environment
from tools.builtin.git.reading import split_patch
from tools.builtin.git.refs import is_full_id
from tools.builtin.git.text import ENTRIES_MAX, bounded, diffstat, last_line, numstat, plural, unquote
from tools.errors import ToolFailed
from tools.spec import Completed

_MAKE = 'mkdir -p "$1/repo/objects" "$1/repo/refs/heads" "$1/tree" && printf "%s\\n" "$2" >"$1/repo/HEAD"'
_PATCH_CHARS = 48_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An author as a commit has it: name, e-mail address, date in git's raw form (`@1700000000 +0100`)."""

    name: str
    email: str
    date: str


class Aside:
    """env: the variables with which git finds the objects made here."""

    def __init__(self, git: Git, folder: Path, *, keep: bool) -> None:
        self._git = git
        self._folder = folder
        self._keep = keep
        objects = git.workspace.git_dir / "objects"
        self.env: dict[str, str] = {"GIT_OBJECT_DIRECTORY": str(objects)}
        if not keep:
            self.env = {
                "GIT_OBJECT_DIRECTORY": str(folder / "repo" / "objects"),
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
            }

    def run(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Completed:
        """git beside the workspace. Its exit code is the caller's to judge.

        Raises:
            ToolFailed: it was stopped.
        """
        done = self._git.box.run(
            command(arguments, git_dir=self._folder / "repo", work_tree=self._folder / "tree"),
            cwd=self._folder / "tree",
            env={**environment(), **self.env, **(env or {})},
            stdin=stdin,
            profile="git" if self._keep else "read",
            stream=False,
        )
        if done.ended_by or done.exit_code is None:
            raise ToolFailed(f"git {arguments[0]} was stopped: {done.ended_by or done.signal}.")
        return done

    def out(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """stdout of what must succeed, without the line end. Raises ToolFailed."""
        done = self.run(*arguments, stdin=stdin, env=env)
        if done.exit_code != 0:
            raise ToolFailed(f"git {arguments[0]} failed: {last_line(done.stderr)}", exit_code=done.exit_code)
        return done.stdout.strip()

    def conflicts(self) -> list[str]:
        """Files that could not be joined."""
        lines = self.run("ls-files", "--unmerged").stdout.splitlines()
        return sorted({unquote(line.partition("\t")[2]) for line in lines if "\t" in line})

    def tree(self) -> str:
        """Id of the tree that the index makes."""
        return self.out("write-tree")

    def commit(self, tree: str, parents: list[str], message: str, author: Person | None = None) -> str:
        """Makes a commit and stands on it; gives its id."""
        given = {}
        if author is not None:
            given = {"GIT_AUTHOR_DATE": author.date}
            given |= {"GIT_AUTHOR_NAME": author.name} if author.name else {}
            given |= {"GIT_AUTHOR_EMAIL": author.email} if author.email else {}
        words = [word for parent in parents for word in ("-p", parent)]
        made = self.out("commit-tree", "--no-gpg-sign", *words, "-F", "-", tree, stdin=message.encode(), env=given)
        if not is_full_id(made):
            raise ToolFailed("git made no commit.")
        self.out("update-ref", "--no-deref", "HEAD", made)
        return made


@contextmanager
def aside(git: Git, head: str, *, keep: bool = False) -> Iterator[Aside]:
    """A repository that stands on the commit `head`, removed at the end of the block.

    keep: objects that are made there are the workspace's, to be checked out afterwards; the caller holds its lock.
    """
    folder = git.workspace.scratch / f"aside-{secrets.token_hex(8)}"
    try:
        made = git.tool("/bin/sh", "-c", _MAKE, "sh", str(folder), head)
        if made.exit_code != 0:
            raise ToolFailed(f"There is no room beside the workspace: {last_line(made.stderr)}")
        place = Aside(git, folder, keep=keep)
        place.out("read-tree", head)
        yield place
    finally:
        git.tool("rm", "-rf", str(folder))


def shown(git: Git, before: str, after: str, env: Mapping[str, str], *, patch: bool = True) -> list[str]:
    """Lines of a preview: how many files change, and the patch between two trees or commits."""
    words = ["diff", *DIFF_OPTIONS, "--numstat", *(["--patch"] if patch else []), before, after, "--"]
    done = git.run(*words, bare=True, env=env)
    stat, text = split_patch(done.stdout) if patch else (done.stdout.splitlines(), "")
    entries = numstat(stat)
    files = [f"  {entry['path']} +{entry['added']} -{entry['removed']}" for entry in entries[:200]]
    return [diffstat(entries), *files, *(["", bounded(text, _PATCH_CHARS)] if text else [])]


def in_conflict(what: str, conflicts: list[str], *, at: str = "") -> Declined:
    """That it cannot be done by itself; nothing was changed."""
    where = f" at {at[:10]}" if at else ""
    return Declined(
        f"{plural(len(conflicts), 'file')} in conflict{where}; nothing was changed by this {what}.",
        code="conflicts",
        error_code="conflict",
        text="\n".join(["In conflict:", *conflicts[:ENTRIES_MAX]]),
        conflicts=conflicts[:ENTRIES_MAX],
        stopped_at=at,
    )


def step_to(git: Git, sha: str) -> None:
    """Moves branch and work tree forward to a commit made aside, past local changes that it does not touch.

    Raises:
        Declined: it touches files with changes of their own.
    """
    done = git.run(
        "merge", "--ff-only", "--quiet", "--no-verify", "--no-verify-signatures", "--no-stat", "--no-autostash", sha,
        write=True,
    )  # fmt: skip
    if done.exit_code != 0:
        raise Declined(
            f"The work tree could not take it: {last_line(done.stderr)}",
            code="local_changes",
            text=done.stderr,
            exit_code=done.exit_code,
        )
