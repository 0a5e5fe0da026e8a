"""Git operations in a process of their own, killed where a pipe holds git back: no test waits for luck."""

import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audit.ids import uuid7
from tests.integration.tools.git_support import Door
from tools import registry
from tools.box import SandboxBox

DEADLINE_S = 60.0


def until(true: Callable[[], bool], what: str) -> None:
    """Waits for it."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.005)


class Attempt:
    """A step that runs `tool` as a worker's process; `kill` ends that as the kernel would, and its commands with it."""

    def __init__(self, door: Door, tool: str, **arguments: Any) -> None:
        door.step_id = str(uuid7())
        self.door = door
        self.pid = os.fork()
        if self.pid == 0:
            try:
                box = SandboxBox(door.workspace, limits=registry.get(tool).limits, call_id=door.step_id)
                registry.get(tool).run(arguments, box)
            finally:
                os._exit(0)

    def kill_worker(self) -> None:
        """Only that: what it started outside the sandbox (a push) goes on."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def kill(self) -> None:
        self.kill_worker()
        until(lambda: not self._commands(), "the commands of a dead worker end")

    def _commands(self) -> list[int]:
        """Processes that still work on the workspace's repository."""
        mark, found = os.fsencode(self.door.workspace.git_dir), []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdecimal() and mark in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found


class Gate:
    """A pipe at `path`, in the place of a file that git opens: it waits there until it is let through."""

    def __init__(self, path: Path, owner: os.stat_result) -> None:
        self.path = path
        self.content = path.read_bytes() if path.exists() else None
        self.owner = owner
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o666)
        for made in (path, path.parent):
            os.chown(made, owner.st_uid, owner.st_gid)

    def let_through(self) -> None:
        """One reader goes on; it reads nothing."""
        until(self._opened, f"somebody opens {self.path.name}")

    def let_through_until(self, true: Callable[[], bool], what: str) -> None:
        """Readers go on until it is so, and at most one more."""
        until(lambda: true() or (self._opened() and true()), what)

    def _opened(self) -> bool:
        try:
            os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    def remove(self) -> None:
        """The file is as it was."""
        assert stat.S_ISFIFO(self.path.lstat().st_mode)
        self.path.unlink()
        if self.content is not None:
            self.path.write_bytes(self.content)
            os.chown(self.path, self.owner.st_uid, self.owner.st_gid)
