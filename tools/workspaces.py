"""A job's folder: made with the right owner, found again, removed.

`<base>/<job id>/` holds `tree`, `repo.git` and `scratch`. Where the server is root, the folder itself stays root's
(0711, so that a command can walk through and change nothing) and these three belong to the sandbox's user; the server's
own files beside them do not, nor do the `snapshots` (see `tools.snapshots`).
"""

import contextlib
import os
import secrets
import stat
import subprocess
from pathlib import Path
from uuid import UUID

from django.conf import settings

from tools.errors import SandboxUnavailable, ToolFailed, ToolRefused
from tools.removal import remove_tree
from tools.sandbox.identity import identity_for, reachable
from tools.spec import Workspace

_PARTS = ("tree", "repo.git", "scratch")
SNAPSHOTS = "snapshots"
GONE = ".gone-"
_LEFT = (GONE, ".probe-")
_HANDED_OVER = "handover-"
COPY_TIMEOUT_S = 600


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
    workspace = place_of(workspace_id)
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
    root = place_of(workspace_id).root
    gone = root.with_name(f"{GONE}{workspace_id}-{secrets.token_hex(4)}")
    try:
        root.rename(gone)  # at once: nobody finds a half of it, and what a crash leaves is known for what it is
    except FileNotFoundError:
        return
    remove_tree(gone)


def remove_leftovers(*, before: float) -> int:
    """Removes what killed workers left beside and in the workspaces and nobody touched since `before` (Unix time):
    trials of the sandbox, half-removed workspaces, handed-over bundles. How many there were."""
    found = 0
    with contextlib.suppress(FileNotFoundError):
        for entry in list(os.scandir(settings.WORKSPACE_DIR)):
            if entry.name.startswith(_LEFT) and _old(entry, before):
                remove_tree(entry.path)
                found += 1
    for workspace_id in there():
        with contextlib.suppress(FileNotFoundError):
            for entry in list(os.scandir(place_of(str(workspace_id)).root)):
                if entry.name.startswith(_HANDED_OVER) and _old(entry, before):
                    remove_tree(entry.path)
                    found += 1
    return found


def _old(entry: "os.DirEntry[str]", before: float) -> bool:
    facts = entry.stat(follow_symlinks=False)
    return stat.S_ISDIR(facts.st_mode) and facts.st_mtime < before


def there() -> list[UUID]:
    """The ids of the workspaces that are there, whatever has become of their jobs."""
    folder = Path(settings.WORKSPACE_DIR)
    found: list[UUID] = []
    if not folder.is_dir():
        return found
    for entry in os.scandir(folder):
        try:
            name = UUID(entry.name)
        except ValueError:
            continue
        if str(name) == entry.name and entry.is_dir(follow_symlinks=False):
            found.append(name)
    return found


def place_of(workspace_id: str) -> Workspace:
    """Where the job's workspace is, or would be.

    Raises:
        ToolRefused: `workspace_id` is not a UUID in its usual form.
    """
    try:
        if str(UUID(workspace_id)) != workspace_id:
            raise ValueError
    except (ValueError, AttributeError, TypeError):
        raise ToolRefused("A workspace is named by a UUID.", workspace=str(workspace_id)[:64]) from None
    return Workspace(id=workspace_id, root=base() / workspace_id)


def refuse_if_there(workspace_id: str) -> Workspace:
    """Raises ToolRefused: there is such a workspace, or `workspace_id` is not a UUID in its usual form."""
    place = place_of(workspace_id)
    if place.root.exists():
        raise ToolRefused("There is such a workspace already.", workspace=workspace_id)
    return place


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


def holds(workspace_id: str) -> bool | None:
    """Is, or was, anything in the job's folder? None where there is no such folder (any more).

    Raises:
        ToolRefused: `workspace_id` is not a UUID in its usual form.
    """
    place = place_of(workspace_id)
    if not place.root.is_dir():
        return None
    if any(folder.is_dir() and any(folder.iterdir()) for folder in (place.tree, place.git_dir)):
        return True
    # made after the tree, and never used where it is empty: a tree that is younger was written to and emptied
    return place.tree.stat().st_mtime_ns > place.git_dir.stat().st_mtime_ns


def copy(source_id: str, target_id: str) -> Workspace:
    """A new workspace that holds what another holds now, and belongs to the new one's user. Its snapshots stay behind.

    Nothing may run in the source meanwhile. Links are copied as links, and nothing is read through them.

    Raises:
        ToolRefused: an id is not a UUID in its usual form, or the new workspace is there already.
        ToolFailed: it could not be copied; nothing is left of it.
    """
    source, _ = place_of(source_id), refuse_if_there(target_id)
    made = workspace_for(target_id)
    parts = [str(source.root / name) for name in os.listdir(source.root) if name != SNAPSHOTS]
    done = subprocess.run(
        ["cp", "-a", "--reflink=auto", "--", *parts, str(made.root)], capture_output=True, timeout=COPY_TIMEOUT_S
    )
    identity = identity_for(target_id)
    if done.returncode == 0 and identity.dropped:
        owner = f"{identity.uid}:{identity.gid}"
        owned = [str(made.root / part) for part in _PARTS]
        done = subprocess.run(["chown", "-hR", owner, "--", *owned], capture_output=True, timeout=COPY_TIMEOUT_S)
    if done.returncode != 0:
        remove(target_id)
        raise ToolFailed(f"The workspace could not be copied: {done.stderr.decode(errors='replace')[-300:]}")
    point_to(made)
    return made


def point_to(workspace: Workspace) -> None:
    """The work tree's `.git` file names its git directory by its whole path."""
    pointer = workspace.tree / ".git"
    if not stat.S_ISREG(os.lstat(pointer).st_mode if os.path.lexists(pointer) else 0):
        return
    pointer.unlink()
    pointer.write_text(f"gitdir: {workspace.git_dir}\n")
    identity = identity_for(workspace.id)
    if identity.dropped:
        os.chown(pointer, identity.uid, identity.gid, follow_symlinks=False)
