"""Who sandboxed commands run as.

A server that runs as root drops to a number that follows from the workspace's id and that no account needs to have, so
that two jobs' commands are different users even to the kernel's oldest checks (modes, signals, how many processes a
user may have). The numbers lie in a range that nobody hands out (see "Users, Groups, UIDs and GIDs on systemd systems");
in a container whose users are a small slice of the host's, a few below systemd's own are shared instead. A server that
is not root stays who it is.
"""

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

_WIDE = (1879048192, 1 << 28)  # first, how many
_NARROW = (61000, 184)


@dataclass(frozen=True, slots=True)
class Identity:
    uid: int
    gid: int

    @property
    def dropped(self) -> bool:
        """Is it another user than the worker's?"""
        return self.uid != os.geteuid()


def identity_for(workspace_id: str) -> Identity:
    """The user that this workspace's commands run as, and that its files belong to."""
    if os.geteuid() != 0:
        return Identity(os.geteuid(), os.getegid())
    first, count = _range()
    number = first + int.from_bytes(hashlib.sha256(workspace_id.encode()).digest()[:8]) % count
    return Identity(number, number)


@functools.cache
def _range() -> tuple[int, int]:
    try:
        maps = [Path(f"/proc/self/{name}").read_text().split() for name in ("uid_map", "gid_map")]
    except OSError:
        return _NARROW
    whole = all(len(words) == 3 and int(words[0]) == 0 and int(words[2]) >= sum(_WIDE) for words in maps)
    return _WIDE if whole else _NARROW


def reachable(path: Path) -> bool:
    """May any user walk down to `path`? Where the server is not root the question does not arise."""
    if os.geteuid() != 0:
        return True
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.exists())
