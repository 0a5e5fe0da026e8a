"""What lies in a workspace, counted by descriptors that follow no link."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.spec import Workspace

DEPTH_MAX = 256
_BLOCK = 512  # of st_blocks, whatever the file system's own
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """size_bytes: on disk, a file with several names once; files: everything that has a name; why: not empty where
    folders lie so deep that they were not counted."""

    size_bytes: int = 0
    files: int = 0
    why: str = ""


class _Enough(Exception):
    """Nobody needs to know more."""


@dataclass(slots=True)
class _Count:
    enough: Callable[[int, int], bool]
    size_bytes: int = 0
    files: int = 0
    too_deep: bool = False

    def add(self, facts: os.stat_result, seen: set[int]) -> None:
        self.files += 1
        if facts.st_nlink > 1 and not stat.S_ISDIR(facts.st_mode):
            if facts.st_ino in seen:
                return
            seen.add(facts.st_ino)
        self.size_bytes += facts.st_blocks * _BLOCK


def measure(workspace: Workspace, *, enough: Callable[[int, int], bool] = lambda size, files: False) -> Usage:
    """What the workspace's tree, repository and scratch folder hold now. `enough(size_bytes, files)` ends the count.

    A folder that a command of the server's own user closed is opened for the moment: nothing is hidden by its mode.

    Raises:
        OSError
    """
    return measure_folders([workspace.tree, workspace.git_dir, workspace.scratch], enough=enough)


def measure_folders(folders: list[Path], *, enough: Callable[[int, int], bool] = lambda size, files: False) -> Usage:
    """The same of any folders; those that are not there hold nothing."""
    count, seen = _Count(enough), set[int]()
    with contextlib.suppress(_Enough):
        for folder in folders:
            try:
                descriptor = os.open(folder, _FOLDER)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                _folder(count, seen, descriptor, 1)
            finally:
                os.close(descriptor)
    why = f"its folders lie deeper than {DEPTH_MAX} levels" if count.too_deep else ""
    return Usage(size_bytes=count.size_bytes, files=count.files, why=why)


def _folder(count: _Count, seen: set[int], folder: int, level: int) -> None:
    below = []
    with os.scandir(folder) as items:
        for item in items:
            try:
                facts = item.stat(follow_symlinks=False)
            except OSError:
                continue  # it went meanwhile
            count.add(facts, seen)
            if stat.S_ISDIR(facts.st_mode):
                below.append(item.name)
            if not count.files & 1023 and count.enough(count.size_bytes, count.files):
                raise _Enough
    if count.enough(count.size_bytes, count.files):
        raise _Enough
    if below and level >= DEPTH_MAX:
        count.too_deep = True
        return
    for name in below:
        with _opened(name, folder) as descriptor:
            if descriptor is not None:
                _folder(count, seen, descriptor, level + 1)


@contextlib.contextmanager
def _opened(name: str, parent: int) -> Iterator[int | None]:
    """None: it went meanwhile, or is something else now."""
    try:
        descriptor: int | None = os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        descriptor = _forced(name, parent)
    except OSError:
        descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _forced(name: str, parent: int) -> int | None:
    """Opens a folder of our own that lets nobody in; its mode is what it was when this returns."""
    try:
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return None
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        here = f"/proc/self/fd/{handle}"
        os.chmod(here, mode | 0o700)
        try:
            return os.open(here, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            os.chmod(here, mode)
    except OSError:
        return None
    finally:
        os.close(handle)
