"""What a file tool is about to do, noted beside the workspace: an attempt that comes after a lost one knows its work.

The notes stand in the workspace's own folder, which no command can write, and go with it.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.canonical import canonical_json
from tools.removal import remove_tree
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
            remove_tree(self.taken)
