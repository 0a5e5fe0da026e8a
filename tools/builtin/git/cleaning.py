"""git.clean."""

import hashlib
from collections.abc import Mapping
from typing import Any

from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.refs import PATH_SCHEMA, check_path
from tools.builtin.git.text import ENTRIES_MAX, bounded, last_line, plural, unquote
from tools.builtin.git.tool import GitTool, typed
from tools.errors import ToolFailed
from tools.spec import Box, Effect, Result, Risk, RiskScore

_WOULD = "Would remove "


class Clean(GitTool):
    name = "git.clean"
    summary = (
        "Remove files that git does not know from the work tree; with folders also whole folders, with ignored also what "
        ".gitignore names. Repositories inside the work tree are left alone."
    )
    effect = Effect.REPEATABLE
    writes = True
    schema = {
        "type": "object",
        "properties": {
            "paths": {"type": "array", "items": PATH_SCHEMA, "minItems": 1, "maxItems": 500},
            "folders": {"type": "boolean", "default": False},
            "ignored": {"type": "boolean", "default": False},
        },
        "additionalProperties": False,
    }
    examples = ({"folders": True}, {"paths": ["build"], "folders": True, "ignored": True})

    def check(self, arguments: Mapping[str, Any]) -> None:
        for path in arguments.get("paths", []):
            check_path(path, field="paths")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        reasons = ("removes files that no commit holds", "only in the job's own workspace")
        return RiskScore(level=Risk.MEDIUM, reasons=reasons)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return typed(
            "clean", "-f", *_switches(arguments), *(["--", *arguments["paths"]] if arguments.get("paths") else [])
        )

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"count", "sha256"}: of the list of what would go."""
        found = _would(arguments, Git(box))
        digest = hashlib.sha256("\0".join(found).encode("utf-8", "backslashreplace")).hexdigest()
        return {"count": len(found), "sha256": digest}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        found = _would(arguments, Git(box))
        if not found:
            return "There is nothing to remove."
        return bounded("\n".join([f"{plural(len(found), 'path')} would be removed:", *(f"  {path}" for path in found)]))

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        found = _would(arguments, git)
        if found:
            done = git.run("clean", "--force", "--quiet", *_switches(arguments), *_paths(arguments), write=True)
            if done.exit_code != 0:
                raise Declined(
                    f"Not everything could be removed: {last_line(done.stderr)}",
                    code="clean_failed",
                    text=done.stderr,
                    exit_code=done.exit_code,
                )
        return Result(
            ok=True,
            summary=f"{plural(len(found), 'path')} removed.",
            data={"count": len(found), "removed": found[:ENTRIES_MAX]},
            text="\n".join(found[:ENTRIES_MAX]) or "There was nothing to remove.",
            exit_code=0,
        )


def _switches(arguments: Mapping[str, Any]) -> list[str]:
    return [*(["-d"] if arguments.get("folders") else []), *(["-x"] if arguments.get("ignored") else [])]


def _paths(arguments: Mapping[str, Any]) -> list[str]:
    return ["--", *arguments.get("paths", [])]


def _would(arguments: Mapping[str, Any], git: Git) -> list[str]:
    """What would go, by git's own dry run.

    Raises:
        ToolFailed: the list is too long to be looked at.
    """
    done = git.run("clean", "--dry-run", *_switches(arguments), *_paths(arguments))
    if done.exit_code != 0 or done.ended_by or done.truncated_bytes:
        why = last_line(done.stderr) or "the list is too long; name paths"
        raise ToolFailed(f"git cannot say what would go: {why}")
    return [unquote(line.removeprefix(_WOULD)) for line in done.stdout.splitlines() if line.startswith(_WOULD)]
