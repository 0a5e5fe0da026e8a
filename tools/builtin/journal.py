"""What a file tool is about to do, noted beside the workspace: an attempt that comes after a lost one knows its work.

The notes stand in the workspace's own folder, which no command can write, and go with it.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from audit.canonical import canonical_json
from tools.spec import Box

_FOLDER = "journal"


class Journal:
    """The notes of one call: its permit's subject and its arguments say which. `place` is a folder for what it takes out."""

    def __init__(self, box: Box, arguments: Mapping[str, Any]) -> None:
        self.place = box.workspace.root / _FOLDER
        body = canonical_json({"call": box.call_id, "arguments": dict(arguments)})
        self.key = hashlib.sha256(b"countersign-journal/v1\n" + body).hexdigest()[:40]

    def read(self) -> dict[str, Any] | None:
        """What was noted, None where nothing was."""
        try:
            found = json.loads((self.place / f"{self.key}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found if isinstance(found, dict) else None

    def write(self, notes: Mapping[str, Any]) -> None:
        """Replaces what was noted, in one step."""
        self.place.mkdir(mode=0o700, exist_ok=True)
        new = self.place / f"{self.key}.{secrets.token_hex(8)}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(notes, file)
        new.replace(self.place / f"{self.key}.json")

    @property
    def taken(self) -> Path:
        """Where a thing that is deleted goes first."""
        return self.place / f"{self.key}.taken"

    def clear_taken(self) -> None:
        """Removes what was taken out, whatever permissions a command left on it."""
        if self.taken.is_symlink() or not self.taken.is_dir():
            self.taken.unlink(missing_ok=True)
        else:
            remove_all(self.taken)


def remove_all(folder: Path) -> None:
    """Removes the folder with all that it holds, whatever permissions a command left on it."""
    shutil.rmtree(folder, onerror=_opened)


def _opened(
    function: Callable[..., object], path: str, failure: tuple[type[BaseException], BaseException, TracebackType]
) -> None:
    """A folder without permissions is opened and tried again; what went by itself is gone."""
    if isinstance(failure[1], FileNotFoundError):
        return
    if not isinstance(failure[1], PermissionError):
        raise failure[1]
    closed = False
    for folder in (os.path.dirname(path), path):
        with contextlib.suppress(FileNotFoundError):
            facts = os.lstat(folder)
            if stat.S_ISDIR(facts.st_mode) and facts.st_mode & 0o700 != 0o700:
                os.chmod(folder, 0o700)
                closed = True
    if not closed:
        raise failure[1]
    if function in (os.open, os.scandir, os.rmdir):
        shutil.rmtree(path, onerror=_opened)
    else:
        function(path)
