"""git.apply: a patch as git makes them, checked first, all of it or nothing."""

import re
from collections.abc import Mapping
from typing import Any

from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.refs import check_path
from tools.builtin.git.staging import refuse_submodules
from tools.builtin.git.text import ENTRIES_MAX, bounded, diffstat, last_line, numstat, plural
from tools.builtin.git.tool import GitTool, typed
from tools.errors import ToolFailed, ToolRefused
from tools.spec import Box, Completed, Effect, Result, Risk, RiskScore

PATCH_MAX_CHARS = 1_000_000
# A mode outside a hunk: hunks' lines begin with a blank, a sign or a backslash.
_SPECIAL = re.compile(
    r"^(?:(?:new|old|deleted) (?:file )?mode|index [0-9a-f]+\.\.[0-9a-f]+) (120000|160000)\b", re.MULTILINE
)
_KINDS = {"120000": "a symbolic link", "160000": "a submodule"}


class Apply(GitTool):
    name = "git.apply"
    summary = (
        "Apply a patch (git's format, with a/ and b/ before the paths) to the work tree, with staged also to what is "
        "staged; reverse takes it back. All or nothing; no links, no submodules."
    )
    effect = Effect.ONCE
    writes = True
    undone_by = "`git.apply` of the same patch with `reverse`"
    schema = {
        "type": "object",
        "properties": {
            "patch": {"type": "string", "minLength": 1, "maxLength": PATCH_MAX_CHARS},
            "staged": {"type": "boolean", "default": False},
            "reverse": {"type": "boolean", "default": False},
        },
        "required": ["patch"],
        "additionalProperties": False,
    }
    examples = ({"patch": "--- a/README.md\n+++ b/README.md\n@@ -1 +1 @@\n-hello\n+Hello\n", "staged": True},)

    def check(self, arguments: Mapping[str, Any]) -> None:
        special = _SPECIAL.search(arguments["patch"].replace("\r\n", "\n"))
        if special:
            raise ToolRefused(f"The patch is about {_KINDS[special[1]]}.", field="arguments.patch")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("changes only the job's own workspace",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return typed(
            "apply", "--index" if arguments.get("staged") else "", "-R" if arguments.get("reverse") else "", "-"
        )

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"head", "branch"}"""
        git = Git(box)
        return {"head": git.head(), "branch": git.current_branch()}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        git = Git(box)
        try:
            stat = _stat(git, arguments)
            self._check(git, arguments)
        except Declined as declined:
            return bounded(f"This would fail: {declined.message}\n{declined.text}")
        how = "taken back" if arguments.get("reverse") else "applied"
        return bounded("\n".join([f"Would be {how}:", diffstat(stat), "", arguments["patch"]]), 64_000)

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        refuse_submodules(git)
        stat = _stat(git, arguments)
        if arguments.get("staged"):
            git.run("update-index", "-q", "--refresh", write=True)
        self._check(git, arguments)
        done = git.run("apply", *_words(arguments), "-", write=True, stdin=_patch(arguments))
        if done.exit_code != 0:
            raise _declined(done.stderr, done.exit_code)
        return _applied(stat, arguments)

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        """By the files: it happened where the patch no longer fits and its reverse does.

        Raises:
            ToolFailed: both fit, or neither.
        """
        git = Git(box)
        other = {**arguments, "reverse": not arguments.get("reverse")}
        fits, taken_back = (_fault(git, how) is None for how in (arguments, other))
        if fits == taken_back:
            raise ToolFailed("By the files it cannot be told whether the patch was applied.")
        return None if fits else _applied(_stat(git, arguments), arguments)

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        other = {**arguments, "reverse": not arguments.get("reverse", False)}
        return {"tool": self.name, "arguments": other} if len(arguments["patch"]) < 16_000 else None

    def _check(self, git: Git, arguments: Mapping[str, Any]) -> None:
        fault = _fault(git, arguments)
        if fault is not None:
            raise _declined(fault.stderr, fault.exit_code)


def _fault(git: Git, arguments: Mapping[str, Any]) -> Completed | None:
    """Where the patch does not fit; None where it does. Files and what is staged are looked at one by one: together git
    wants them alike by their times too, which nothing that only looks can put right."""
    for place in ([], ["--cached"]) if arguments.get("staged") else ([],):
        words = [word for word in _words(arguments) if word != "--index"]
        done = git.run("apply", "--check", *words, *place, "-", stdin=_patch(arguments))
        if done.exit_code != 0:
            return done
    return None


def _words(arguments: Mapping[str, Any]) -> list[str]:
    words = ["--whitespace=nowarn", "--no-3way"]
    if arguments.get("staged"):
        words.append("--index")
    if arguments.get("reverse"):
        words.append("--reverse")
    return words


def _patch(arguments: Mapping[str, Any]) -> bytes:
    text = str(arguments["patch"])
    return (text if text.endswith("\n") else f"{text}\n").encode()


def _stat(git: Git, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files that the patch is about, with lines added and removed.

    Raises:
        Declined: it is no patch.
        ToolRefused: a path leads out of the work tree or into a git directory.
    """
    words = [word for word in _words(arguments) if word != "--index"]
    done = git.run("apply", "--numstat", *words, "-", stdin=_patch(arguments))
    stat = numstat(done.stdout.splitlines())
    if done.exit_code != 0 or not stat:
        raise _declined(done.stderr or "error: there is no change in it", done.exit_code)
    for entry in stat:
        check_path(entry["path"], field="patch")
    return stat


def _declined(stderr: str, exit_code: int | None) -> Declined:
    return Declined(
        f"The patch does not fit: {last_line(stderr)}", code="patch_refused", text=stderr, exit_code=exit_code
    )


def _applied(stat: list[dict[str, Any]], arguments: Mapping[str, Any]) -> Result:
    how = "taken back" if arguments.get("reverse") else "applied"
    return Result(
        ok=True,
        summary=f"The patch was {how}: {diffstat(stat)}.",
        data={"count": len(stat), "files": stat[:ENTRIES_MAX], "staged": bool(arguments.get("staged"))},
        text="\n".join([f"{how}, {plural(len(stat), 'file')}", *(entry["path"] for entry in stat[:ENTRIES_MAX])]),
        exit_code=0,
    )
