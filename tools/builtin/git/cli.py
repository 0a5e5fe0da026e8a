"""git in the sandbox, on the job's own repository."""

import base64
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.builtin.git import config_scan
from tools.builtin.git.hardening import command, environment
from tools.builtin.git.refs import is_full_id
from tools.builtin.git.text import last_line, unquote
from tools.errors import ToolFailed, ToolRefused
from tools.spec import Box, Completed

_LOCKED = re.compile(r"\.lock': File exists|Unable to create '.*\.lock'|cannot lock ref|unable to lock")
# In base64, since a folder's name may hold any byte. The last entry is "." and says that nothing is missing.
_FIND_NESTED = r"{ find . -mindepth 2 -name .git -prune -printf '%h\0'; printf '.\0'; } | base64 -w0"
_NESTED_MAX = 1_000


class Declined(ToolRefused):
    """git said no to something that whoever asked can put right.

    From `run` it becomes a Result with ok=False; from a preview or a target state it is raised as the refusal it is.
    """

    def __init__(self, summary: str, *, text: str = "", exit_code: int | None = None, **data: Any) -> None:
        super().__init__(summary, **data)
        self.text = text
        self.exit_code = exit_code


class Git:
    """Commands on one workspace's repository. Building it scans the repository's configuration.

    Raises (on building):
        Declined: the workspace holds no repository.
        ToolRefused: the configuration holds what no operation of ours writes.
    """

    def __init__(self, box: Box) -> None:
        self.box = box
        self.workspace = box.workspace
        if not config_scan.prepared(self.workspace.git_dir):
            raise Declined("This job's workspace holds no git repository.", code="no_repository")
        config_scan.scan(self.workspace.git_dir)

    def run(
        self,
        *arguments: str,
        write: bool = False,
        bare: bool = False,
        stdin: bytes = b"",
        protocols: str = "none",
        options: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        extra_read: Sequence[Path] = (),
        stream: bool = False,
        timeout_s: float | None = None,
    ) -> Completed:
        """Runs `git *arguments`; its exit code is the caller's to judge.

        write: the repository and the work tree may be changed. bare: neither index nor work tree take part, so
        `.gitattributes` cannot hide a file from a diff. extra_read: paths outside the workspace to be read.
        env: further variables.

        Raises:
            ToolFailed: it was stopped (time, memory, cancelled), or a lock stands in the way (transient).
        """
        argv = command(
            arguments,
            git_dir=self.workspace.git_dir,
            work_tree=None if bare else self.workspace.tree,
            options=options,
        )

        def attempt() -> Completed:
            return self.box.run(
                argv,
                cwd=self.workspace.git_dir if bare else self.workspace.tree,
                env={**environment(protocols=protocols), **(env or {})},
                stdin=stdin,
                timeout_s=timeout_s,
                profile="git" if write else "read",
                stream=stream,
                extra_read=extra_read,
            )

        done = attempt()
        if write and _refused_by_lock(done):
            self._remove_stale_locks()
            done = attempt()
        if done.ended_by and not (done.ended_by == "output_limit" and not write):
            raise ToolFailed(f"git {arguments[0]} was stopped: {done.ended_by}.", ended_by=done.ended_by)
        if done.exit_code is None and not done.ended_by:
            raise ToolFailed(f"git {arguments[0]} was ended by signal {done.signal}.", signal=done.signal)
        if _refused_by_lock(done):
            raise ToolFailed(f"git {arguments[0]}: {last_line(done.stderr)}", transient=True, code_detail="locked")
        return done

    def tool(self, *argv: str, write: bool = False, cwd: Path | None = None) -> Completed:
        """Runs a plain program (find, cp) in the sandbox."""
        return self.box.run(
            list(argv), cwd=cwd or self.workspace.tree, profile="git" if write else "read", stream=False
        )

    def out(self, *arguments: str, **how: Any) -> str:
        """stdout of a command that must succeed.

        Raises:
            ToolFailed: it did not.
        """
        done = self.run(*arguments, **how)
        if done.exit_code != 0 and done.ended_by != "output_limit":
            raise ToolFailed(f"git {arguments[0]} failed: {last_line(done.stderr)}", exit_code=done.exit_code)
        return done.stdout

    def _remove_stale_locks(self) -> None:
        """Lock files that a killed attempt left. Only the holder of the workspace's lock writes here, and it is us."""
        self.tool("find", "-P", str(self.workspace.git_dir), "-name", "*.lock", "-delete", write=True)

    def find(self, ref: str) -> str:
        """Full id of the commit that `ref` names, or "". `ref` must have passed `check_ref`."""
        done = self.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        found = done.stdout.strip()
        return found if done.exit_code == 0 and is_full_id(found) else ""

    def commit(self, ref: str) -> str:
        """Full id of the commit that `ref` names.

        Raises:
            Declined: there is none.
        """
        found = self.find(ref)
        if not found:
            raise Declined(f"There is no commit {ref!r} in this repository.", code="unknown_ref", ref=ref)
        return found

    def branch(self, name: str) -> str:
        """Full id of the commit that the local branch stands on, or ""."""
        return self.find(f"refs/heads/{name}")

    def object_at(self, ref: str) -> str:
        """Full id of what `ref` (`refs/...`) names, an annotated tag's own too, or ""."""
        done = self.run("rev-parse", "--verify", "--quiet", "--end-of-options", ref)
        found = done.stdout.strip()
        return found if done.exit_code == 0 and is_full_id(found) else ""

    def head(self) -> str:
        """Full id of HEAD, or "" before the first commit."""
        return self.find("HEAD")

    def current_branch(self) -> str:
        """Name of the branch that is checked out, or "" where HEAD is detached."""
        done = self.run("symbolic-ref", "--quiet", "HEAD")
        return done.stdout.strip().removeprefix("refs/heads/") if done.exit_code == 0 else ""

    def ancestor(self, old: str, new: str) -> bool:
        """Whether commit `old` is `new` or behind it; False where `old` is not known here."""
        return self.run("merge-base", "--is-ancestor", old, new).exit_code == 0

    def populated_submodules(self) -> list[str]:
        """Paths of submodules that are checked out in the work tree, up to 20.

        git runs `git status` inside such a folder, by that folder's own configuration, where no scan of ours reaches.
        """
        nested = self.nested_repositories()
        if not nested:
            return []
        listed = self.out("ls-files", "--stage", "--", *nested).splitlines()
        return [unquote(line.partition("\t")[2]) for line in listed if line.startswith("160000 ")][:20]

    def nested_repositories(self) -> list[str]:
        """Folders of the work tree, below its top, that hold a repository of their own.

        Raises:
            Declined: there are more than can be looked at.
        """
        done = self.tool("/bin/sh", "-c", _FIND_NESTED)
        try:
            found = base64.b64decode(done.stdout, validate=True)
        except ValueError:
            found = b""
        if done.truncated_bytes or not found.endswith(b".\0") or found.count(b"\0") > _NESTED_MAX:
            raise Declined("There are too many repositories inside the work tree.", code="embedded_repository")
        return sorted(os.fsdecode(path).removeprefix("./") for path in found.split(b"\0")[:-2])


def _refused_by_lock(done: Completed) -> bool:
    return done.exit_code not in (0, None) and _LOCKED.search(done.stderr) is not None
