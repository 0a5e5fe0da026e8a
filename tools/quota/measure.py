"""What lies in a workspace, counted by descriptors that follow no link."""

import contextlib
import ctypes
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.sandbox.kernel import syscall
from tools.spec import Workspace

DEPTH_MAX = 256
_SYS_FCHMODAT2, _EMPTY_PATH = 452, 0x1000  # Linux 6.6, on every architecture
_BLOCK = 512  # of st_blocks, whatever the file system's own
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """size_bytes: on disk, a file with several names once; files: everything that has a name; why: not empty where
    not everything could be counted."""

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
    why: str = ""

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
            with _opened(count, str(folder), None) as descriptor:
                if descriptor is not None:
                    _folder(count, seen, descriptor, 1)
    return Usage(size_bytes=count.size_bytes, files=count.files, why=count.why)


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
        count.why = f"its folders lie deeper than {DEPTH_MAX} levels"
        return
    for name in below:
        with _opened(count, name, folder) as descriptor:
            if descriptor is not None:
                _folder(count, seen, descriptor, level + 1)


@contextlib.contextmanager
def _opened(count: _Count, name: str, parent: int | None) -> Iterator[int | None]:
    """None: it went meanwhile, or is something else now, or is closed for good."""
    descriptor, mode = None, None
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
        now = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if os.geteuid() != 0 and now & 0o500 != 0o500:  # its names can be read, and nothing about them
            os.fchmod(descriptor, now | 0o700)
            mode = now
    except PermissionError:
        try:
            descriptor, mode = _forced(name, parent)
        except OSError:
            count.why = "one of its folders is closed, and cannot be counted"
    except OSError:
        pass
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            if mode is not None:
                os.fchmod(descriptor, mode)
            os.close(descriptor)


def _forced(name: str, parent: int | None) -> tuple[int, int]:
    """Opens a folder of our own that lets nobody in, to be given back its mode afterwards: (descriptor, mode)."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        # fchmodat2(2) on the folder itself: no name is followed, and no /proc is needed, which a worker keeps closed
        arguments = (ctypes.c_int(handle), b"", ctypes.c_uint(mode | 0o700), ctypes.c_int(_EMPTY_PATH))
        syscall("fchmodat2", _SYS_FCHMODAT2, *arguments)
        return os.open(".", _FOLDER, dir_fd=handle), mode
    finally:
        os.close(handle)
