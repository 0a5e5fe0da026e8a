"""A real remote, a real job workspace, and calls through the one door."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.utils import timezone

from audit.ids import uuid7
from tools import permits, runner, workspaces
from tools.box import SandboxBox
from tools.registry import get
from tools.spec import Call, Result

PLAIN_ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}


def plain_git(folder: Path, *arguments: str, check: bool = True, stdin: str = "") -> str:
    """git as a person runs it, on the remote's side."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=PLAIN_ENV, capture_output=True, text=True, check=False, input=stdin
    )
    if check and done.returncode:
        raise AssertionError(f"git {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


@dataclass
class Remote:
    """A bare repository `path`, and a clone `work` of it with which people push."""

    path: Path
    work: Path

    def commit(self, files: dict[str, str], message: str, branch: str = "main") -> str:
        """A commit of somebody else's, pushed; gives its id."""
        plain_git(self.work, "checkout", "-q", "-B", branch)
        for name, content in files.items():
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            (self.work / name).write_text(content)
        plain_git(self.work, "add", "-A")
        plain_git(self.work, "commit", "-q", "-m", message)
        plain_git(self.work, "push", "-q", "origin", branch)
        return plain_git(self.work, "rev-parse", "HEAD")

    def sha(self, branch: str) -> str:
        return plain_git(self.path, "rev-parse", "--verify", "-q", f"refs/heads/{branch}", check=False)


def merged_elsewhere(remote: Remote, files: dict[str, str], branch: str = "main") -> str:
    """Somebody else's commit on top of what the remote's branch holds now."""
    plain_git(remote.work, "fetch", "-q", "origin")
    plain_git(remote.work, "checkout", "-q", "-B", branch, f"origin/{branch}")
    return remote.commit(files, "Somebody else's", branch)


def make_remote(folder: Path) -> Remote:
    """A remote with one commit on main."""
    bare, work = folder / "remote.git", folder / "people"
    plain_git(folder, "init", "-q", "--bare", "--initial-branch=main", str(bare))
    plain_git(folder, "init", "-q", "--initial-branch=main", str(work))
    plain_git(work, "remote", "add", "origin", str(bare))
    remote = Remote(bare, work)
    remote.commit({"README.md": "hello\n", "src/app.py": "print('one')\n"}, "First")
    return remote


class Door:
    """Calls for one job, each with a permit of its own, as the engine makes them."""

    def __init__(self) -> None:
        self.job_id = str(uuid7())
        self.workspace = workspaces.workspace_for(self.job_id)
        self.log: list[tuple[str, str]] = []
        self.step_id = ""
        self.cancelled: Callable[[], bool] = lambda: False

    def call(self, tool: str, target_state: dict[str, Any] | None = None, **arguments: Any) -> Call:
        return Call(
            tool=tool,
            schema_version=1,
            arguments=arguments,
            workspace_id=self.job_id,
            target_state=target_state or {},
        )

    def run(self, tool: str, target_state: dict[str, Any] | None = None, **arguments: Any) -> Result:
        call, now = self.call(tool, target_state, **arguments), timezone.now()
        self.step_id = str(uuid7())
        permit = permits.issue(subject=self.step_id, digest=call.digest(), granted_by="test", now=now)
        return runner.run(
            call,
            permit.pk,
            worker="test",
            on_output=lambda stream, text: self.log.append((stream, text)),
            cancelled=self.cancelled,
            now=now,
        )

    def ok(self, tool: str, target_state: dict[str, Any] | None = None, **arguments: Any) -> Result:
        result = self.run(tool, target_state, **arguments)
        assert result.ok, (result.summary, result.text)
        return result

    def preview(self, tool: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
        return runner.preview(self.call(tool, **arguments))

    def probe(self, tool: str, target_state: dict[str, Any] | None = None, **arguments: Any) -> Result | None:
        return runner.probe(self.call(tool, target_state, **arguments), subject=self.step_id)

    def write(self, path: str, content: str | bytes) -> None:
        """Puts a file into the work tree as a shell step would: it belongs to the sandbox's user."""
        target = self.workspace.tree / path
        owner = self.workspace.tree.stat()
        for folder in reversed([target, *target.parents]):
            if self.workspace.tree in folder.parents and folder != target and not folder.exists():
                folder.mkdir()
                os.chown(folder, owner.st_uid, owner.st_gid)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        os.chown(target, owner.st_uid, owner.st_gid)

    def commit(self, files: dict[str, str | bytes], message: str = "A change") -> str:
        for path, content in files.items():
            self.write(path, content)
        self.ok("git.add", paths=list(files))
        return str(self.ok("git.commit", message=message).data["sha"])


def git_box(door: Door) -> SandboxBox:
    """What a git tool gets from the runner, for tests below the door."""
    return SandboxBox(door.workspace, limits=get("git.push").limits, call_id="test")
