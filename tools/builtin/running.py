"""The workspace's files that a command runs, as they are now: what was approved is what runs."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.builtin.beneath import Beneath, NotThere
from tools.errors import ToolRefused

_CHUNK_BYTES = 1024**2
_SHOWN_MAX = 20_000
_SHOWN_FILES_MAX = 20
_PATH_MAX = 1024


def digests(scripts: Sequence[str], tree: Path) -> dict[str, str]:
    """SHA-256 (hex) of those of `scripts` that are there, by their path from the work tree. Every one of them, whatever
    its size; a link is followed within the work tree."""
    found = {}
    with Beneath(tree) as beneath:
        for name, path in _existing(scripts, tree):
            digest = hashlib.sha256()
            try:
                with beneath.opened(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
                    while chunk := file.read(_CHUNK_BYTES):
                        digest.update(chunk)
            except (NotThere, ToolRefused):
                continue
            found[name] = digest.hexdigest()
    return found


def shown(scripts: Sequence[str], tree: Path) -> str:
    """Their text for people, as much as fits."""
    parts = []
    with Beneath(tree) as beneath:
        for name, path in _existing(scripts, tree):
            try:
                with beneath.opened(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
                    size, content = os.fstat(descriptor).st_size, file.read(_SHOWN_MAX)
            except (NotThere, ToolRefused):
                continue
            more = size - len(content)
            text = content.decode(errors="backslashreplace")
            parts.append(f"== {name} ==\n{text}" + (f"\n[... {more} bytes more ...]" if more > 0 else ""))
            if len(parts) == _SHOWN_FILES_MAX:
                parts.append("[... more files that it runs are not shown ...]")
                break
    return "\n".join(parts)


def _existing(scripts: Sequence[str], tree: Path) -> Iterator[tuple[str, str]]:
    """(path as named, path without links), of what may lie in the work tree."""
    root = os.path.realpath(tree)
    for name in dict.fromkeys(os.path.normpath(script) for script in scripts):
        if name.startswith(("/", "..", "~")) or "\0" in name or len(name) > _PATH_MAX:
            continue
        real = os.path.realpath(os.path.join(root, name))
        if real.startswith(root + "/"):
            yield name, real[len(root) + 1 :]
