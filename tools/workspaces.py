"""A job's folder: made with the right owner, found again, removed.

`<base>/<job id>/` holds `tree`, `repo.git` and `scratch`. Where the server is root, the folder itself stays root's
(0711, so that a command can walk through and change nothing) and the three below belong to the sandbox's user.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from uuid import UUID

from django.conf import settings

from tools.errors import SandboxUnavailable, ToolRefused
from tools.sandbox.identity import identity_for, reachable
from tools.spec import Workspace

_PARTS = ("tree", "repo.git", "scratch")


def base() -> Path:
    """Where the workspaces are.

    Raises:
        SandboxUnavailable: the server is root, and the user that its commands run as could not get there.
    """
    folder = Path(settings.WORKSPACE_DIR)
    if not reachable(folder):
        raise SandboxUnavailable(
            f"The sandbox's user cannot reach {folder}: a folder above it is closed to others. "
            "Set COUNTERSIGN_WORKSPACE_DIR to a place that is not."
        )
    return folder


def workspace_for(workspace_id: str) -> Workspace:
    """The job's workspace, made if it is not there.

    Raises:
        ToolRefused: `workspace_id` is not a UUID in its usual form.
        SandboxUnavailable: the sandbox's user could not reach it.
    """
    workspace = _workspace(workspace_id)
    root_mode = 0o711 if os.geteuid() == 0 else 0o700
    for folder in (*_missing(workspace.root.parent), workspace.root):
        _make(folder, root_mode)
    identity = identity_for(workspace_id)
    for part in _PARTS:
        folder = workspace.root / part
        if _make(folder, 0o700) and identity.dropped:
            os.chown(folder, identity.uid, identity.gid, follow_symlinks=False)
    return workspace


def remove(workspace_id: str) -> None:
    """Removes the job's workspace with everything in it; a missing one is fine.

    Raises:
        ToolRefused: `workspace_id` is not a UUID in its usual form.
    """
    root = _workspace(workspace_id).root
    if root.exists():
        shutil.rmtree(root, onerror=_open_up)


def _workspace(workspace_id: str) -> Workspace:
    try:
        if str(UUID(workspace_id)) != workspace_id:
            raise ValueError
    except (ValueError, AttributeError, TypeError):
        raise ToolRefused("A workspace is named by a UUID.", workspace=str(workspace_id)[:64]) from None
    return Workspace(id=workspace_id, root=base() / workspace_id)


def _missing(folder: Path) -> list[Path]:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    return missing[::-1]


def _make(folder: Path, mode: int) -> bool:
    """Makes the folder with exactly this mode, whatever the umask; False if it was there."""
    try:
        folder.mkdir(mode=mode)
    except FileExistsError:
        return False
    folder.chmod(mode)
    return True


def _open_up(
    function: Callable[..., object], path: str, failure: tuple[type[BaseException], BaseException, TracebackType]
) -> None:
    """A folder that a command left without permissions is opened and tried again."""
    if not isinstance(failure[1], PermissionError):
        raise failure[1]
    parent = os.path.dirname(path)
    for folder in (parent, path):
        if os.path.isdir(folder) and not os.path.islink(folder):
            os.chmod(folder, 0o700)
    if function in (os.open, os.scandir, os.rmdir):
        shutil.rmtree(path)
    else:
        function(path)
