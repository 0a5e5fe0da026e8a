"""Which branch a call is about, as far as its arguments say so."""

from collections.abc import Mapping
from typing import Any, Final


class _Untold:
    """See `UNTOLD`."""

    def __repr__(self) -> str:
        return "UNTOLD"


UNTOLD: Final = _Untold()  # it is about a branch that its arguments do not name: the one that is checked out

_CURRENT = frozenset(
    {
        "git.commit", "git.merge", "git.add", "git.status", "git.diff", "git.cherry_pick", "git.revert", "git.reset",
        "git.stash", "git.apply", "git.clean",
    }
)  # fmt: skip


def branch_of(tool: str, arguments: Mapping[str, Any]) -> str | _Untold:
    """The branch that the call changes, or checks out: where a push goes, not where it comes from; "" where it is about
    none."""
    if tool in ("git.push", "git.force_push"):
        return _short(str(arguments.get("remote_branch") or arguments.get("branch") or ""))
    if tool in ("git.delete_branch", "git.restore_branch"):
        return _short(str(arguments.get("branch", "")))
    if tool == "git.rebase":
        return _short(arguments["branch"]) if arguments.get("branch") else UNTOLD
    if tool == "git.branch":
        return _short(str(arguments.get("create", "")))
    if tool == "git.checkout":
        return _short(str(arguments.get("ref", "")))
    if tool in ("workspace.prepare", "git.clone"):
        return _short(arguments["branch"]) if arguments.get("branch") else UNTOLD
    return UNTOLD if tool in _CURRENT else ""


def _short(name: str) -> str:
    return name.removeprefix("refs/heads/").removeprefix("heads/")
