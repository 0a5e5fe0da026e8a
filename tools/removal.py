"""Removing folders that a command left as it liked: closed ones are opened, links are not followed."""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType


def remove_tree(folder: Path | str) -> None:
    """Removes the folder and everything in it, by whoever owns it.

    Raises:
        OSError: something in it belongs to somebody else, or the folder is not there.
    """
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
