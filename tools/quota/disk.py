"""What all workspaces share: their disk, and the bound on all of them together."""

import json
import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from django.conf import settings

from tools.quota.bounds import MIB, mib
from tools.quota.measure import Usage
from tools.spec import Workspace

RECORD = "usage.json"
_TOTAL_KEPT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A workspace as it was measured last. snapshots_bytes: beside it; at: Unix time; took_s: of the measuring."""

    size_bytes: int
    files: int
    why: str
    snapshots_bytes: int
    at: float
    took_s: float

    @property
    def usage(self) -> Usage:
        return Usage(size_bytes=self.size_bytes, files=self.files, why=self.why)


def full(folder: Path) -> str:
    """Why nothing more may be written to the folder's disk, "" where it may."""
    kept = settings.WORKSPACE_DISK_FREE_MB * MIB
    if not kept:
        return ""
    facts = os.statvfs(folder)
    free = facts.f_bavail * facts.f_frsize
    return f"the disk of the workspaces is full: {mib(free)} are free, and {mib(kept)} stay free" if free < kept else ""


def recorded(root: Path) -> Recorded | None:
    """What was measured last of the workspace at `root`, None where nothing was."""
    try:
        return Recorded(**json.loads((root / RECORD).read_text()))
    except (OSError, ValueError, TypeError):  # not yet, or torn by a power cut
        return None


def record(workspace: Workspace, found: Recorded) -> None:
    """Notes what was measured. The folder is the server's own: no command can write there."""
    place = workspace.root / RECORD
    new = place.with_name(f"{RECORD}.{os.getpid()}-{threading.get_native_id()}")
    new.write_text(json.dumps(asdict(found)))
    os.replace(new, place)


def forget(workspace: Workspace) -> None:
    """Whoever asks next measures."""
    (workspace.root / RECORD).unlink(missing_ok=True)


class _Total:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.until_s = 0.0
        self.folder: Path | None = None
        self.size_bytes = 0


_total = _Total()


def total_bytes(*, fresh: bool = False) -> int:
    """What all workspaces hold together with their snapshots, as measured last; asked again after some seconds."""
    folder = Path(settings.WORKSPACE_DIR)
    with _total.lock:
        now_s = time.monotonic()
        if fresh or now_s >= _total.until_s or _total.folder != folder:
            found = [recorded(Path(entry.path)) for entry in os.scandir(folder)] if folder.is_dir() else []
            _total.size_bytes = sum(one.size_bytes + one.snapshots_bytes for one in found if one is not None)
            _total.until_s, _total.folder = now_s + _TOTAL_KEPT_S, folder
        return _total.size_bytes


def total_reached() -> str:
    """Why no workspace may grow, "" where they may."""
    most = settings.WORKSPACES_TOTAL_MB * MIB
    if not most or (held := total_bytes()) <= most:
        return ""
    return f"all workspaces together hold {mib(held)}, and {mib(most)} are allowed"
