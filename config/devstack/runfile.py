"""What runs in a data folder: a lock that one supervisor holds, and a file that says who it is.

`run.json` (mode 0600): `{"pid", "started_at", "address", "state", "processes": {name: [pid, started_at]}}`, where
`started_at` counts clock ticks since boot, so that a pid that another process got later is never taken for ours.
"""

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from config.devstack.errors import StackError
from config.devstack.linux import started_at


@dataclass
class Running:
    """A stack as its file describes it. `state`: starting, ready, stopping."""

    pid: int
    started_at: int | None
    address: str
    state: str = "starting"
    processes: dict[str, tuple[int, int | None]] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        return same_process(self.pid, self.started_at)


def same_process(pid: int, started: int | None) -> bool:
    """Does the process with this pid and start still live?"""
    now = started_at(pid)
    return now is not None and (started is None or now == started)


def read(folder: Path) -> Running | None:
    """None where nothing was ever started, or the file is unreadable."""
    try:
        value = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        value["processes"] = {name: (pid, at) for name, (pid, at) in value["processes"].items()}
        return Running(**value)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write(folder: Path, running: Running) -> None:
    partial = folder / f".run.json.{os.getpid()}"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(running), file)
    partial.rename(folder / "run.json")


def remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        (folder / "run.json").unlink()


def take_lock(folder: Path) -> int:
    """The open descriptor that holds the folder's lock until it is closed or we end.

    Raises:
        StackError: another supervisor holds it; the message says its address.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        other = read(folder)
        where = f"at {other.address} (pid {other.pid})" if other else f"with the data folder {folder}"
        raise StackError(
            f"Countersign already runs {where}; stop it with bin/down, or give another --data-dir."
        ) from None
    return descriptor


def locked(folder: Path) -> bool:
    """Does a supervisor hold the folder's lock?"""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
