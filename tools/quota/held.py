"""Disk that files take which have no name any more and are open still: what counting names cannot see."""

import os
import stat

from tools.quota.measure import Usage
from tools.sandbox.supervise import descendants

_LOOKED_AT_MAX = 50_000  # descriptors


def started_by(thread: int) -> list[int]:
    """Every process below those that this thread of ours started (by the kernel's number of the thread)."""
    try:
        with open(f"/proc/self/task/{thread}/children") as listing:
            first = [int(word) for word in listing.read().split()]
    except OSError:
        return []
    return [pid for one in first for pid in (one, *descendants(one))]


def held_open(pids: list[int], device: int) -> Usage:
    """The files without a name on this device that the processes hold open, each once."""
    seen: set[int] = set()
    size_bytes = looked = 0
    for pid in pids:
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # it ended
        for number in numbers:
            looked += 1
            if looked > _LOOKED_AT_MAX:
                return Usage(size_bytes=size_bytes, files=len(seen))
            try:
                facts = os.stat(f"/proc/{pid}/fd/{number}")
            except OSError:
                continue
            if (
                stat.S_ISREG(facts.st_mode)
                and facts.st_nlink == 0
                and facts.st_dev == device
                and facts.st_ino not in seen
            ):
                seen.add(facts.st_ino)
                size_bytes += facts.st_blocks * 512
    return Usage(size_bytes=size_bytes, files=len(seen))
