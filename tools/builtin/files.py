"""Files of the workspace: read, write, list, search. Paths are relative to the work tree and never leave it."""

import difflib
import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, ClassVar

from tools import registry
from tools.builtin.beneath import NEW_FILE_MODE, Beneath, NotThere
from tools.errors import InvalidArguments, ToolRefused
from tools.spec import Box, Effect, Limits, Result, Risk, RiskScore, Tool

READ_MAX_BYTES = 4 * 1024**2
_WRITE_MAX_CHARACTERS = 1_000_000
_LINES_DEFAULT = 400
_LINES_MAX = 4000
_TEXT_MAX = 96 * 1024
_ENTRIES_MAX = 2000
_MATCHES_MAX = 200
_MATCH_LINE_MAX = 400
_COMPARED_MAX = 4_000_000
_HIDDEN = frozenset({".git"})

_PATH: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 1024,
    "description": "Relative to the work tree, with / between the parts.",
}
# Other machinery acts on these, outside the workspace, once they are pushed.
_ACTED_ON = (".github/", ".gitlab", ".circleci/", ".buildkite/", ".husky/", "Jenkinsfile", "Dockerfile", ".pre-commit")


class FileTool(Tool):
    queue: ClassVar[str] = "files"
    limits: ClassVar[Limits] = Limits(timeout_s=60.0, output_head_bytes=256 * 1024, output_tail_bytes=0)

    def check(self, arguments: Mapping[str, Any]) -> None:
        _check_path(str(arguments.get("path", ".")))


class Read(FileTool):
    name: ClassVar[str] = "files.read"
    summary: ClassVar[str] = "Reads a text file of the workspace, or some of its lines."
    effect: ClassVar[Effect] = Effect.READ
    examples = ({"path": "README.md"},)
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "path": _PATH,
            "start_line": {"type": "integer", "minimum": 1, "description": "The first line to read, from 1."},
            "max_lines": {"type": "integer", "minimum": 1, "maximum": _LINES_MAX},
        },
        "required": ["path"],
        "additionalProperties": False,
    }

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"read {arguments['path']}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        path = arguments["path"]
        try:
            with Beneath(box.workspace.tree) as tree:
                content = tree.read(path, READ_MAX_BYTES)
        except NotThere as error:
            return not_there(path, error)
        facts = {"path": path, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if b"\0" in content[:8192]:
            return Result(ok=False, summary=f"{path} is not text.", data={**facts, "binary": True})
        lines = _lines(content.decode(errors="backslashreplace"))
        first = int(arguments.get("start_line", 1))
        wanted = lines[first - 1 : first - 1 + int(arguments.get("max_lines", _LINES_DEFAULT))]
        text = "".join(f"{line}\n" for line in wanted)
        missing = max(0, len(text) - _TEXT_MAX)
        text = text[:_TEXT_MAX]
        last = first + len(wanted) - 1
        span = f"lines {first} to {last} of {len(lines)}" if wanted else f"nothing from line {first} on"
        return Result(
            ok=True,
            summary=f"{path}: {counted_lines(len(lines))}" if len(wanted) == len(lines) else f"{path}: {span}",
            data={**facts, "lines": len(lines), "start_line": first, "end_line": last},
            text=text,
            truncated_bytes=missing,
        )


class Write(FileTool):
    name: ClassVar[str] = "files.write"
    needs_profile: ClassVar[str] = "build"
    summary: ClassVar[str] = "Writes a text file of the workspace, whole; makes folders on the way."
    effect: ClassVar[Effect] = Effect.REPEATABLE
    examples = ({"path": "src/money.py", "content": "x = 1\n"}, {"path": ".github/workflows/ci.yml", "content": ""})
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "path": _PATH,
            "content": {
                "type": "string",
                "maxLength": _WRITE_MAX_CHARACTERS,
                "description": "The whole new content of the file.",
            },
        },
        "required": ["path", "content"],
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        check_file_path(arguments["path"])
        try:
            arguments["content"].encode()
        except UnicodeEncodeError:
            raise InvalidArguments("This is not text that UTF-8 can hold.", field="arguments.content") from None

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return write_risk(arguments["path"])

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"write {arguments['path']} ({counted_lines(len(_lines(arguments['content'])))})"

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        before = _before(arguments["path"], box)
        return {"sha256": "" if before is None else hashlib.sha256(before).hexdigest()}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        """A unified diff."""
        path = arguments["path"]
        before = _before(path, box)
        if before is not None and b"\0" in before[:8192]:
            return f"{path} is not text now; it is replaced by {counted_lines(len(_lines(arguments['content'])))}."
        old = (before or b"").decode(errors="backslashreplace")
        return diff(path, old, arguments["content"], is_new=before is None)

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        path, content = arguments["path"], arguments["content"].encode()
        before = _before(path, box)
        try:
            with Beneath(box.workspace.tree) as tree:
                is_new = tree.write(path, content)
        except NotThere as error:
            return not_there(path, error)
        old = (before or b"").decode(errors="backslashreplace")
        added, removed = _changed_lines(old, arguments["content"])
        lines = len(_lines(arguments["content"]))
        box.log(diff(path, old, arguments["content"], is_new=is_new))
        return Result(
            ok=True,
            summary=f"{'New file' if is_new else 'Wrote'} {path}: {counted_lines(lines)} (+{added} -{removed})",
            data={
                "path": path,
                "created": is_new,
                "lines": lines,
                "lines_added": added,
                "lines_removed": removed,
                "size_bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            },
            text=f"{path} written: {counted_lines(lines)}, {added} added, {removed} removed.",
        )

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        """By the file: are its bytes those of the call? They appear at once and with their permissions, so that
        nothing else needs asking; a new file has mode 0644."""
        path, content = arguments["path"], arguments["content"].encode()
        with Beneath(box.workspace.tree) as tree:
            try:
                found, mode = tree.read_with_mode(path, len(content))
            except NotThere:
                return None
        is_new = target_state.get("sha256") == ""
        if found != content or (is_new and mode != NEW_FILE_MODE):
            return None
        lines = len(_lines(arguments["content"]))
        return Result(
            ok=True,
            summary=f"{path} holds what was to be written: {counted_lines(lines)}.",
            data={
                "path": path,
                "lines": lines,
                "size_bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "mode": f"{mode:04o}",
            },
            text=f"{path} was written: {counted_lines(lines)}.",
        )


class List(FileTool):
    name: ClassVar[str] = "files.list"
    summary: ClassVar[str] = "Lists a folder of the workspace."
    effect: ClassVar[Effect] = Effect.READ
    examples = ({"path": "src"},)
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "path": {**_PATH, "description": "The folder; the work tree's top where none is given."},
            "depth": {"type": "integer", "minimum": 1, "maximum": 10, "description": "How many levels; 1 by default."},
        },
        "additionalProperties": False,
    }

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"list {arguments.get('path', '.')}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        path = arguments.get("path", ".")
        try:
            with Beneath(box.workspace.tree) as tree:
                found = tree.entries(
                    str(PurePosixPath(path)),
                    depth=int(arguments.get("depth", 1)),
                    limit=_ENTRIES_MAX + 1,
                    leave_out=_HIDDEN,
                )
        except NotThere as error:
            return not_there(path, error)
        more = len(found) > _ENTRIES_MAX
        found = found[:_ENTRIES_MAX]
        marks = {"folder": "/", "link": "@", "other": "?"}
        lines = [f"{entry.path}{marks.get(entry.kind, '')}" for entry in found]
        return Result(
            ok=True,
            summary=f"{path}: {len(found)}{' and more' if more else ''} entries",
            data={
                "path": path,
                "entries": [
                    {"path": entry.path, "kind": entry.kind, "size_bytes": entry.size_bytes} for entry in found
                ],
                "more": more,
            },
            text="\n".join([*lines, "[... more ...]"] if more else lines),
        )


class Search(FileTool):
    """The search runs in the sandbox, by grep: a pattern that takes forever then costs a process that has a deadline,
    and not the worker."""

    name: ClassVar[str] = "files.search"
    summary: ClassVar[str] = "Finds lines that match an extended regular expression (grep -E) in the workspace's files."
    effect: ClassVar[Effect] = Effect.READ
    examples = ({"pattern": "TODO"},)
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "pattern": {"type": "string", "minLength": 1, "maxLength": 1000},
            "path": {**_PATH, "description": "A file or folder to search; everything where none is given."},
            "glob": {"type": "string", "minLength": 1, "maxLength": 200, "description": "Only file names like *.py"},
        },
        "required": ["pattern"],
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        super().check(arguments)
        if any("\0" in str(value) or "\n" in str(value) for value in arguments.values()):
            raise ToolRefused("A pattern is one line.")

    def describe(self, arguments: Mapping[str, Any]) -> str:
        where = arguments.get("path", ".")
        return f"search {arguments['pattern']!r} in {where}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        path = str(PurePosixPath(arguments.get("path", ".")))
        try:
            with Beneath(box.workspace.tree) as tree:
                tree.kind(path)
        except NotThere as error:
            return not_there(path, error)
        command = ["grep", "-rnHIE", "--color=never", "--exclude-dir=.git", "--max-count=1000"]
        if "glob" in arguments:
            command.append(f"--include={arguments['glob']}")
        ended = box.run([*command, "-e", arguments["pattern"], "--", path], profile="read", stream=False)
        if ended.ended_by or ended.exit_code not in (0, 1):
            why = ended.stderr.strip().splitlines()[-1:] or [f"ended by {ended.ended_by or ended.signal}"]
            return Result(ok=False, summary=f"The search failed: {why[0][:200]}", text=ended.stderr[:2000])
        lines = [line.removeprefix("./") for line in ended.stdout.splitlines() if line]
        shown = [line if len(line) <= _MATCH_LINE_MAX else f"{line[:_MATCH_LINE_MAX]}…" for line in lines]
        more = len(shown) > _MATCHES_MAX or ended.truncated_bytes > 0
        shown = shown[:_MATCHES_MAX]
        return Result(
            ok=True,
            summary=f"{len(shown)}{' and more' if more else ''} lines match {arguments['pattern']!r}",
            data={"pattern": arguments["pattern"], "matches": len(shown), "more": more},
            text="\n".join([*shown, "[... more ...]"] if more else shown) or "No line matches.",
            truncated_bytes=ended.truncated_bytes,
        )


def _check_path(path: str) -> None:
    if "\0" in path or path.startswith("/") or ".." in path.split("/"):
        raise ToolRefused("A path is relative to the work tree and stays inside it.", path=path)


def check_file_path(path: str, *, folder: bool = False) -> None:
    """Refuses what a tool may not write to; folder: the path may end with a slash.

    Raises:
        ToolRefused
    """
    _check_path(path)
    parts = PurePosixPath(path).parts
    if not parts or (path.endswith("/") and not folder):
        raise ToolRefused("A file is written to a path with a name.", path=path)
    if any(part.lower() == ".git" for part in parts):
        raise ToolRefused("Git's own files are written by the git tools only.", path=path)


def write_risk(path: str) -> RiskScore:
    """Of a change to the file or folder at `path`."""
    path = str(PurePosixPath(path))
    if f"{path}/".startswith(_ACTED_ON) or PurePosixPath(path).name.startswith(_ACTED_ON):
        return RiskScore(level=Risk.MEDIUM, reasons=(f"{path} is run by other machinery once it is pushed",))
    return RiskScore(level=Risk.LOW, reasons=("writes inside the job's own workspace",))


def _before(path: str, box: Box) -> bytes | None:
    """The file as it is, None where there is none; one that is too large to compare counts as empty."""
    with Beneath(box.workspace.tree) as tree:
        try:
            return tree.read(path, READ_MAX_BYTES)
        except NotThere:
            try:
                tree.kind(path)
            except NotThere:
                return None
            return b""


def diff(path: str, old: str, new: str, *, is_new: bool, is_gone: bool = False) -> str:
    """A unified diff; of texts too different to compare in good time, the bare old and new lines."""
    names = ("/dev/null" if is_new else f"a/{path}", "/dev/null" if is_gone else f"b/{path}")
    before, after = _lines(old), _lines(new)
    if _comparable(before, after):
        made = list(difflib.unified_diff(before, after, *names, lineterm=""))
    else:
        made = [f"--- {names[0]}", f"+++ {names[1]}", f"@@ -1,{len(before)} +1,{len(after)} @@"]
        made += [f"-{line}" for line in before] + [f"+{line}" for line in after]
    return "\n".join(made) + "\n" if made else "No change.\n"


def _changed_lines(old: str, new: str) -> tuple[int, int]:
    """(added, removed)"""
    before, after = _lines(old), _lines(new)
    if not _comparable(before, after):
        return len(after), len(before)
    added = removed = 0
    for tag, low, high, new_low, new_high in difflib.SequenceMatcher(None, before, after).get_opcodes():
        if tag != "equal":
            removed += high - low
            added += new_high - new_low
    return added, removed


def _comparable(before: list[str], after: list[str]) -> bool:
    """difflib takes quadratic time, and the texts are not ours."""
    return len(before) * len(after) <= _COMPARED_MAX


def _lines(text: str) -> list[str]:
    """Lines as editors and git count them: ended by a newline and nothing else."""
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def counted_lines(lines: int) -> str:
    return "1 line" if lines == 1 else f"{lines} lines"


def not_there(path: str, error: NotThere) -> Result:
    return Result(ok=False, summary=str(error), data={"path": path, "found": False}, text=str(error))


for _tool in (Read, Write, List, Search):
    registry.register(_tool())
