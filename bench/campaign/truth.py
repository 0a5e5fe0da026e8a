"""What happened outside the system: the ledger's lines, the remote's refs and commits."""

import subprocess
from pathlib import Path
from typing import Any

from bench.campaign.ledger import Ledger
from bench.campaign.stack import Stack


def happened(stack: Stack, ledger: Ledger, *, step: str, tool: str, arguments: dict[str, Any]) -> bool:
    """Did a doubtful step have its effect?"""
    if tool.startswith("campaign."):
        return bool(ledger.of(step))
    if tool == "git.push":
        return arguments["branch"] in branches(stack.remote)
    return False  # nothing else of the campaign's asks a person


def branches(remote: Path) -> dict[str, str]:
    """Commit by branch."""
    lines = _git(remote, "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads").splitlines()
    return dict(line.split(" ", 1) for line in lines)


def commits(remote: Path, branch: str) -> int:
    """Beyond main."""
    return int(_git(remote, "rev-list", "--count", f"main..{branch}"))


def pushes(remote: Path) -> list[str]:
    """The ref of each push that the remote accepted, as its hook wrote them down."""
    path = remote / "pushes"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def _git(remote: Path, *arguments: str) -> str:
    command = ["git", "-c", f"safe.directory={remote}", "--git-dir", str(remote), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
