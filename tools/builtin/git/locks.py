"""One writer a repository at a time, across the threads and processes of this host."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.errors import ToolFailed

_POLL_S = 0.05


@contextmanager
def exclusive(
    path: Path, *, what: str, wait_s: float = 60.0, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[int]:
    """Holds the lock file at `path` for the block, and gives its descriptor.

    The kernel lets go of it when the process dies; a child that inherits the descriptor holds on until it ends too.

    Raises:
        ToolFailed: somebody held it for all of `wait_s` (transient), or `cancelled` said so.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise ToolFailed(f"Another operation holds {what}.", transient=True) from None
                if cancelled():
                    raise ToolFailed("Cancelled while waiting.", ended_by="cancelled") from None
                time.sleep(_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)
