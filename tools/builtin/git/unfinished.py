"""A rebase that died on its way: git leaves a folder of notes behind, by which it is taken back.

Only the holder of the workspace's lock rebases, and it takes back its own conflicts, so whoever holds the lock and finds
such a folder knows that its maker is dead.
"""

import os
import stat
from pathlib import Path

from tools.builtin.git.cli import Git
from tools.builtin.git.refs import is_full_id
from tools.spec import Workspace

_NOTES = ("rebase-merge", "rebase-apply")
_NOTE_MAX_BYTES = 4096


def rebasing(workspace: Workspace) -> bool:
    """Whether a rebase is under way, or was when its process died."""
    return any(os.path.lexists(workspace.git_dir / name) for name in _NOTES)


def interrupted(workspace: Workspace) -> tuple[str, str]:
    """(branch, commit) where the rebase that is under way began; the branch is "" for a detached HEAD, both are where
    its notes do not say (git writes them before it moves anything)."""
    for name in _NOTES:
        sha, ref = (_note(workspace.git_dir / name / field) for field in ("orig-head", "head-name"))
        if is_full_id(sha):
            return ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else "", sha
    return "", ""


def take_back(git: Git) -> None:
    """Puts branch, index and work tree back to where a dead rebase began. The caller holds the workspace's lock.

    Raises:
        ToolFailed: the work tree could not be put back.
    """
    workspace = git.workspace
    if not rebasing(workspace):
        return
    branch, sha = interrupted(workspace)
    if git.run("rebase", "--abort", write=True).exit_code != 0 and sha:
        # The notes are incomplete, since the process died while it removed them.
        if branch:
            git.out("symbolic-ref", "HEAD", f"refs/heads/{branch}", write=True)
        git.out("reset", "--quiet", "--hard", sha, write=True)
    if rebasing(workspace):
        git.tool("rm", "-rf", *(str(workspace.git_dir / name) for name in _NOTES), write=True)


def _note(path: Path) -> str:
    """A line of git's notes; "" where there is no such regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return file.read(_NOTE_MAX_BYTES).decode("utf-8", "replace").strip()
