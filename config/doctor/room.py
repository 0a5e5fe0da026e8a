"""What there is of room for workspaces and artifacts."""

import os
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from config.doctor.finding import Finding, fail, ok, warn
from tools import quota, workspaces
from tools.quota import disk
from tools.quota.shared import shares_blocks

_MIB = quota.MIB
_NEAR = 4  # times what stays free


def room() -> Iterator[Finding]:
    """Reads what was measured last; counts no file."""
    folder = Path(settings.WORKSPACE_DIR)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return  # `folders` says so
    facts = os.statvfs(folder)
    free = facts.f_bavail * facts.f_frsize
    if why := disk.full(folder):
        yield fail("room", why, "Make room there, or lower WORKSPACE_DISK_FREE_MB: until then no step writes.")
    elif why := disk.total_reached():
        yield fail("room", why, "`manage.py workspace clean`, or a higher WORKSPACES_TOTAL_MB.")
    elif free < _NEAR * settings.WORKSPACE_DISK_FREE_MB * _MIB:
        yield warn("room", f"{free // _MIB:,} MiB are left for workspaces", "`manage.py workspace list` says whose.")
    else:
        held, count = disk.total_bytes(fresh=True), len(workspaces.there())
        copies = "copies share blocks" if shares_blocks(folder) else "copies are whole"
        yield ok("room", f"{count} workspaces hold {held // _MIB:,} MiB; {free // _MIB:,} MiB are free; {copies}")
    kept = Path(settings.ARTIFACT_DIR)
    if kept.exists() and not os.access(kept, os.W_OK | os.X_OK):
        yield fail("artifacts", f"{kept} is not writable", "Give it to the server's user.")
