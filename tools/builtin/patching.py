"""files.patch: a unified diff over files of the workspace, checked first, all of it or nothing."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tools.builtin import unified
from tools.builtin.beneath import Beneath, NotThere
from tools.builtin.files import READ_MAX_BYTES, FileTool, check_file_path, counted_lines, diff, write_risk
from tools.builtin.journal import Journal
from tools.errors import InvalidArguments, ToolFailed, ToolRefused
from tools.registry import register
from tools.spec import Box, Effect, Result, Risk, RiskScore

_PATCH_MAX_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """One file: what it holds (None: it is not there) and what it will (None: it is removed)."""

    patch: unified.FilePatch
    before: bytes | None
    after: bytes | None
    moved: tuple[tuple[int, int, int], ...] = ()

    @property
    def path(self) -> str:
        return self.patch.path


class Patch(FileTool):
    """A lost attempt is gone on with: what it was about to do is noted first, each file by its hash before and after."""

    name: ClassVar[str] = "files.patch"
    needs_profile: ClassVar[str] = "build"
    summary: ClassVar[str] = "Applies a unified diff to files of the workspace: checked first, all of it or nothing."
    effect: ClassVar[Effect] = Effect.REPEATABLE
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "patch": {
                "type": "string",
                "minLength": 1,
                "maxLength": _PATCH_MAX_CHARACTERS,
                "description": "A unified diff as `git diff` writes it: --- a/path, +++ b/path, @@ -1,3 +1,4 @@ and lines "
                "that begin with a space, - or +. /dev/null is the old name of a new file and the new name of a deleted "
                "one. Lines must be exact; renames, modes, links and binary files are refused.",
            },
        },
        "required": ["patch"],
        "additionalProperties": False,
    }
    examples: ClassVar[Sequence[Mapping[str, Any]]] = (
        {
            "patch": "--- a/src/money.py\n+++ b/src/money.py\n@@ -1,2 +1,2 @@\n def cents(x):\n-    return x\n+    return round(x * 100)\n"
        },
        {"patch": "--- /dev/null\n+++ b/.github/workflows/ci.yml\n@@ -0,0 +1 @@\n+on: push\n"},
    )
    undone_by: ClassVar[str] = "The same diff the other way round."

    def check(self, arguments: Mapping[str, Any]) -> None:
        for one in _parsed(arguments):
            check_file_path(one.path)

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        patches = _parsed(arguments)
        scores = [write_risk(one.path) for one in patches]
        level = Risk.MEDIUM if any(score.level is Risk.MEDIUM for score in scores) else Risk.LOW
        gone = [one.path for one in patches if one.removes]
        reasons = [reason for score in scores for reason in score.reasons if score.level is level]
        reasons += [f"deletes {path}" for path in gone[:5]]
        return RiskScore(level=level, reasons=tuple(dict.fromkeys(reasons)))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        patches = _parsed(arguments)
        added, removed = sum(one.added for one in patches), sum(one.removed for one in patches)
        names = ", ".join(one.path for one in patches[:5])
        more = f" and {len(patches) - 5} more" if len(patches) > 5 else ""
        return f"patch {names}{more} (+{added} -{removed})"

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """The hash of each file as it is, "" of one that is not there."""
        with Beneath(box.workspace.tree) as tree:
            return {"files": {one.path: _hash(_read(tree, one.path)) for one in _parsed(arguments)}}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        """The stat, and the diff of what is there against what will be.

        Raises:
            ToolRefused: it does not apply.
        """
        with Beneath(box.workspace.tree) as tree:
            try:
                changes = _planned(tree, _parsed(arguments))
            except (unified.PatchError, NotThere) as error:
                raise ToolRefused(f"The patch does not apply: {error}") from None
        return _stat(changes) + "".join(_diff(change) for change in changes)

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        journal = Journal(box, arguments)
        with Beneath(box.workspace.tree) as tree:
            done = _done_before(tree, journal)
            if done is not None:
                return done
            try:
                changes = _planned(tree, _parsed(arguments), journal.read())
            except (unified.PatchError, NotThere) as error:
                return Result(
                    ok=False,
                    summary=f"The patch does not apply: {error}",
                    data={"error_code": "patch_does_not_apply", "applied": False},
                    text=f"{error}\nNothing was changed. Read the file as it is now and make the patch anew.",
                )
            result = _result(changes)
            journal.write(
                {
                    "files": {one.path: [_hash(one.before), _hash(one.after)] for one in changes},
                    "summary": result.summary,
                    "data": dict(result.data),
                }
            )
            _do(tree, changes)
        box.log(_stat(changes) + "".join(_diff(change) for change in changes))
        return result

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        """By the notes of the attempt: do all files hold what they were to hold?"""
        with Beneath(box.workspace.tree) as tree:
            return _done_before(tree, Journal(box, arguments))


def _parsed(arguments: Mapping[str, Any]) -> list[unified.FilePatch]:
    try:
        return unified.parse(arguments["patch"])
    except unified.PatchError as error:
        raise InvalidArguments(str(error), field="arguments.patch") from None
    except UnicodeEncodeError:
        raise InvalidArguments("This is not text that UTF-8 can hold.", field="arguments.patch") from None


def _planned(tree: Beneath, patches: list[unified.FilePatch], notes: Mapping[str, Any] | None = None) -> list[_Change]:
    """Every file as it is and as it will be; notes: of an attempt before, whose files are taken as they are.

    Raises:
        PatchError, NotThere: one cannot be changed so.
        ToolRefused: the way to one leads over a link.
    """
    known = (notes or {}).get("files", {})
    return [_plan(tree, one, known.get(one.path)) for one in patches]


def _plan(tree: Beneath, one: unified.FilePatch, known: Any) -> _Change:
    before = _read(tree, one.path)
    if known is not None and _hash(before) == known[1]:
        return _Change(patch=one, before=before, after=before)
    if one.makes:
        if before is not None:
            raise unified.PatchError(f"{one.path} is there already; the patch makes it anew.")
        return _Change(patch=one, before=None, after=unified.apply(one, b"").content)
    if before is None:
        raise unified.PatchError(f"There is no {one.path}.")
    applied = unified.apply(one, before)
    return _Change(patch=one, before=before, after=None if one.removes else applied.content, moved=applied.moved)


def _do(tree: Beneath, changes: list[_Change]) -> None:
    """Writes every file; where one cannot be written, those before it get back what they held.

    Raises:
        ToolFailed, ToolRefused
    """
    done: list[_Change] = []
    for change in changes:
        if change.after == change.before:
            continue
        try:
            if _read(tree, change.path) != change.before:
                raise ToolFailed(f"{change.path} was changed while the patch was applied.")
            _put(tree, change.path, change.after, change.patch.mode)
        except (NotThere, ToolFailed, ToolRefused, OSError) as error:
            for other in reversed(done):
                _put(tree, other.path, other.before, other.patch.mode)
            raise ToolFailed(f"The patch was taken back: {error}") from error
        done.append(change)


def _put(tree: Beneath, path: str, content: bytes | None, mode: int) -> None:
    if content is None:
        tree.remove_file(path)
    else:
        tree.write(path, content, new_mode=mode)


def _done_before(tree: Beneath, journal: Journal) -> Result | None:
    """The result of an attempt of the same call that did all of it, None where there was none."""
    notes = journal.read()
    if notes is None:
        return None
    for path, (_, after) in notes["files"].items():
        try:
            if _hash(_read(tree, path)) != after:
                return None
        except (NotThere, ToolRefused):
            return None
    return Result(ok=True, summary=notes["summary"], data=notes["data"], text="It was applied by an attempt before.")


def _read(tree: Beneath, path: str) -> bytes | None:
    """The file, None where nothing is there.

    Raises:
        NotThere: it is no file, or too large.
        ToolRefused: the way there leads over a symbolic link.
    """
    try:
        return tree.read(path, READ_MAX_BYTES)
    except NotThere:
        try:
            tree.kind(path)
        except NotThere:
            return None
        raise


def _hash(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()


def _result(changes: list[_Change]) -> Result:
    added, removed = sum(one.patch.added for one in changes), sum(one.patch.removed for one in changes)
    what = changes[0].path if len(changes) == 1 else f"{len(changes)} files"
    return Result(
        ok=True,
        summary=f"Patched {what} (+{added} -{removed})",
        data={
            "applied": True,
            "lines_added": added,
            "lines_removed": removed,
            "files": [
                {
                    "path": one.path,
                    "change": "created" if one.patch.makes else "deleted" if one.patch.removes else "changed",
                    "lines_added": one.patch.added,
                    "lines_removed": one.patch.removed,
                    "sha256": _hash(one.after),
                    "moved": [{"hunk": hunk, "named": named, "found": found} for hunk, named, found in one.moved],
                }
                for one in changes
            ],
        },
        text=_stat(changes),
    )


def _stat(changes: list[_Change]) -> str:
    added, removed = sum(one.patch.added for one in changes), sum(one.patch.removed for one in changes)
    files = "1 file" if len(changes) == 1 else f"{len(changes)} files"
    lines = "1 line" if added == 1 else f"{added} lines"
    text = f"{files} changed, {lines} added, {removed} removed:\n"
    for one in changes:
        how = " (new)" if one.patch.makes else " (deleted)" if one.patch.removes else ""
        text += f"  {one.path}{how} | +{one.patch.added} -{one.patch.removed}\n"
        text += "".join(f"    hunk {hunk} stands at line {at}, not {named}\n" for hunk, named, at in one.moved)
    return text


def _diff(change: _Change) -> str:
    """As git writes it: pages fold by its first line, and a new file's permissions stand there."""
    old = (change.before or b"").decode(errors="backslashreplace")
    new = (change.after or b"").decode(errors="backslashreplace")
    head = f"diff --git a/{change.path} b/{change.path}\n"
    head += f"new file mode 100{change.patch.mode:o}\n" if change.patch.makes else ""
    if not old and not new:
        return f"{head}{change.path} is empty ({counted_lines(0)}).\n"
    ended, ends = old.endswith("\n"), new.endswith("\n")
    tail = f"\\ The last line {'has a' if ends else 'has no'} newline now.\n" if old and new and ended != ends else ""
    return head + diff(change.path, old, new, is_new=change.before is None, is_gone=change.after is None) + tail


PATCH = register(Patch())
