"""Calls to Linux that Python's library lacks. On another system each does nothing."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_M_ARENA_MAX = -8


def die_with_parent(parent: int, sign: int = signal.SIGKILL) -> None:
    """Asks the kernel to send us `sign` when the process `parent`, our parent, ends in whatever way."""
    if sys.platform != "linux":
        return
    _libc().prctl(_PR_SET_PDEATHSIG, int(sign), 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), sign)


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent ended, so that it can see and end them."""
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def fewer_malloc_arenas(count: int = 2) -> None:
    """glibc keeps up to 8 heaps a core for threads; `count` are enough and keep the memory of idle workers low."""
    if sys.platform == "linux":
        mallopt = getattr(_libc(), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, count)


def started_at(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: with the pid it names one process for ever."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def children_of(pid: int) -> list[int]:
    """Pids of the direct children, zombies left out."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] not in (b"Z", b"X"):
            found.append(int(name))
    return found


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
