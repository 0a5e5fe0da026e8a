"""Looks at a workspace while a command runs in it."""

import logging
import os
import threading
import time

from tools.quota import disk
from tools.quota.bounds import Bounds
from tools.quota.held import held_open, started_by
from tools.quota.measure import Usage, measure
from tools.spec import Workspace

log = logging.getLogger(__name__)

FIRST_S = 0.3  # most commands have ended by then, and nobody has looked
PAUSE_MAX_S = 15.0
_SHARE = 10  # so many times as long as a look took passes until the next


class Watch:
    """`over` says why the command must end, "" while it need not. `begin` before the command, in its thread; `end` after.

    A command that outgrows its bounds is seen after 0.3 s at least, and where counting takes long, after ten times as
    long as it takes; until then it can write no more than the disk takes in that time.
    """

    def __init__(self, workspace: Workspace, allowed: Bounds) -> None:
        self.over = ""
        self._workspace = workspace
        self._allowed = allowed
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """From now on what this thread starts in the workspace is watched."""
        runs_in = threading.get_native_id()
        self._thread = threading.Thread(target=self._watch, args=(runs_in,), name="quota", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Nothing is looked at any more when this returns."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, runs_in: int) -> None:
        pause_s = FIRST_S
        while not self._ended.wait(pause_s):
            began_s = time.monotonic()
            try:
                self.over = self._look(runs_in)
            except FileNotFoundError:  # the workspace is gone, and with it what could fill it
                return
            except OSError as error:  # the machine is short of descriptors; the next look may have them
                log.warning("quota.not_measured", extra={"workspace": self._workspace.id, "error": error.strerror})
            if self.over:
                return
            pause_s = min(PAUSE_MAX_S, max(FIRST_S, _SHARE * (time.monotonic() - began_s)))

    def _look(self, runs_in: int) -> str:
        if why := disk.full(self._workspace.root):
            return why
        device = os.stat(self._workspace.tree).st_dev
        held = held_open(started_by(runs_in), device)
        allowed = self._allowed
        found = measure(
            self._workspace,
            enough=lambda size, files: (
                self._ended.is_set() or allowed.passed(size + held.size_bytes, files + held.files)
            ),
        )
        both = Usage(size_bytes=found.size_bytes + held.size_bytes, files=found.files + held.files, why=found.why)
        why = "" if self._ended.is_set() else allowed.broken(both)
        return f"the workspace is full: {why}" if why else ""
