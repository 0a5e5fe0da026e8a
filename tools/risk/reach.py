"""What a call touches, in counts and names, from its arguments and the preview that a worker made of it."""

import re
from collections.abc import Mapping
from typing import Any

from tools.risk.hosts import hosts_of
from tools.spec import Call

_STAT = re.compile(
    r"^(?! )(?:.*, |.* move, )?(\d+) files? changed, (\d+) lines? added, (\d+) removed:?$", re.MULTILINE | re.ASCII
)
_COMMITS = re.compile(r"^(\d+) commits?(?:,.*|:| would move.*)?$", re.MULTILINE | re.ASCII)
_WRITES, _PATCHES = "files.write", "files.patch"
_WORD_MAX = 300


def reach_of(call: Call, preview: str, target_state: Mapping[str, Any]) -> dict[str, int | str]:
    """{"calls", "commits", "files", "lines_added", "lines_removed", "branch" or "ref", "remote", "hosts"}: what is known.

    Only previews that the tool words itself are read: what a command's files say counts for nothing.
    """
    found: dict[str, int | str] = {}
    if call.many:
        calls = call.arguments.get("calls")
        return {"calls": len(calls)} if isinstance(calls, list) else {}
    if call.tool == _PATCHES:
        return _counted(preview)
    if call.tool.startswith("git."):
        found |= _counted(preview)
        found |= _aimed(target_state)
    elif call.tool == _WRITES:
        found |= _compared(preview)
    elif hosts := hosts_of(call.tool, call.arguments):
        found["hosts"] = ", ".join(hosts)[:_WORD_MAX]
    return {name: value for name, value in found.items() if value != ""}


def _counted(preview: str) -> dict[str, int | str]:
    """As the tool sums it up; the first such line, since what others wrote stands after it or indented."""
    stat = _STAT.search(preview)
    if stat is None:
        return {}
    commits = _COMMITS.search(preview[: stat.end()])
    files, added, removed = (int(number) for number in stat.groups())
    return {
        **({"commits": int(commits[1])} if commits else {}),
        "files": files,
        "lines_added": added,
        "lines_removed": removed,
    }


def _aimed(state: Mapping[str, Any]) -> dict[str, int | str]:
    """Where it lands: at a remote, or on a branch of the workspace."""
    ref = str(state.get("remote_ref", ""))
    if ref:
        short = ref.removeprefix("refs/heads/")
        return {
            ("branch" if short != ref else "ref"): short[:_WORD_MAX],
            "remote": str(state.get("url", ""))[:_WORD_MAX],
        }
    return {"branch": str(state.get("branch", ""))[:_WORD_MAX]}


def _compared(preview: str) -> dict[str, int | str]:
    """Of a unified diff of one file; its two first lines are the file's names."""
    lines = preview.split("\n")
    if len(lines) < 2 or not (lines[0].startswith("--- ") and lines[1].startswith("+++ ")):
        return {}
    return {
        "files": 1,
        "lines_added": sum(line.startswith("+") for line in lines[2:]),
        "lines_removed": sum(line.startswith("-") for line in lines[2:]),
    }
