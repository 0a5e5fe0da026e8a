"""`git:/srv/checkpoints` (a folder, made where it is missing) or `git:/srv/checkpoints?remote=origin`: a commit a
checkpoint, pushed where a remote is named. History in a repository that others cloned cannot be rewritten unseen."""

import os
import subprocess
from pathlib import Path

from audit.errors import NotDelivered
from audit.publishing.place import Parcel
from audit.signing import write_durably

GIT_TIMEOUT_S = 60
_IDENTITY = ("-c", "user.name=Countersign audit log", "-c", "user.email=audit@countersign.invalid")
_QUIET = ("-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null")


class GitPlace:
    def __init__(self, folder: Path, remote: str, every_s: float) -> None:
        self.name = f"git:{folder}"
        self.folder = folder
        self.remote = remote
        self.every_s = every_s

    def deliver(self, parcel: Parcel) -> None:
        """Raises NotDelivered, OSError."""
        if not (self.folder / ".git").exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._git("init", "--quiet", "--initial-branch=main")
        write_durably(self.folder / "checkpoint", parcel.note)
        self._git("add", "checkpoint")
        if self._git("status", "--porcelain", "--", "checkpoint"):
            message = f"{parcel.origin}: {parcel.size} records"
            self._git(*_IDENTITY, *_QUIET, "commit", "--quiet", "-m", message, "--", "checkpoint")
        if self.remote:
            self._git("push", "--quiet", self.remote, "HEAD")

    def _git(self, *arguments: str) -> str:
        environ = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        try:
            done = subprocess.run(
                ["git", "-C", str(self.folder), *arguments],
                env=environ,
                capture_output=True,
                text=True,
                timeout=GIT_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NotDelivered(f"git took longer than {GIT_TIMEOUT_S} s.") from None
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise NotDelivered(f"git {arguments[0]}: {lines[0] if lines else done.returncode}")
        return done.stdout
