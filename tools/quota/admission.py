"""Before a step, may its workspace grow? After it, how much is there?"""

import contextlib
import logging
import time
from pathlib import Path

from django.conf import settings

from tools.errors import OverQuota, ServerFull
from tools.quota import disk
from tools.quota.bounds import Bounds, bounds
from tools.quota.measure import Usage, measure, measure_folders
from tools.spec import Workspace

log = logging.getLogger(__name__)

_QUICK_S = 0.05
_SHARE = 20  # a slow count of a workspace that is less than half full is done again after so many times its own time


def admit(workspace: Workspace, *, by_itself: bool) -> None:
    """Lets a step that may write begin. by_itself: the tool writes outside any command, where no `Watch` sees it.

    Raises:
        ServerFull: the disk, or what all workspaces may hold, is used up; another try may find room.
        OverQuota: this workspace holds more than it may, and the tool would only add to it.
    """
    place = next(folder for folder in (workspace.root, *workspace.root.parents) if folder.exists())
    if why := disk.full(place) or disk.total_reached():
        raise ServerFull(f"Nothing more can be written now: {why}.")
    if by_itself and (why := bounds().broken(known(workspace))):
        raise OverQuota(f"The job's workspace is full: {why}. Remove files first.")


def known(workspace: Workspace) -> Usage:
    """As it was measured last; measured now where it never was."""
    if not workspace.root.is_dir():
        return Usage()
    found = disk.recorded(workspace.root) or _measured(workspace)
    return found.usage


def allowance(workspace: Workspace) -> Bounds:
    """What a command may let the workspace grow to. One that is over its bounds may be made smaller, and not larger."""
    return bounds().not_below(known(workspace))


def note(workspace: Workspace) -> None:
    """Measures the workspace after a step. One that takes long to count and has much room left is not counted after
    every step. Where it cannot be measured, the log says so."""
    last = disk.recorded(workspace.root)
    if last is not None and last.took_s > _QUICK_S and abs(time.time() - last.at) < _SHARE * last.took_s:
        twice = Usage(size_bytes=2 * last.size_bytes, files=2 * last.files, why=last.why)
        if not bounds().broken(twice):
            return
    try:
        _measured(workspace)
    except OSError as error:
        log.warning("quota.not_measured", extra={"workspace": workspace.id, "error": error.strerror})


def _measured(workspace: Workspace) -> disk.Recorded:
    began_s = time.monotonic()
    found = measure(workspace)
    snapshots = Usage()
    if settings.WORKSPACES_TOTAL_MB:
        snapshots = measure_folders([Path(workspace.root / "snapshots")])
    made = disk.Recorded(
        size_bytes=found.size_bytes,
        files=found.files,
        why=found.why,
        snapshots_bytes=snapshots.size_bytes,
        at=time.time(),
        took_s=time.monotonic() - began_s,
    )
    with contextlib.suppress(OSError):  # the disk is full: whoever asks next measures again
        disk.record(workspace, made)
    return made
