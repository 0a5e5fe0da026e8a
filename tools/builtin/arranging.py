"""files.move, files.delete, files.mkdir: what stands where in the workspace."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tools.builtin.beneath import Beneath, NotThere
from tools.builtin.files import FileTool, check_file_path, not_there, write_risk
from tools.builtin.journal import Journal
from tools.errors import ToolFailed, ToolRefused
from tools.registry import register
from tools.spec import Box, Effect, Result, Risk, RiskScore

_COUNTED_MAX = 10_000
_LISTED_MAX = 200


def _path(description: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": 1024, "description": description}


class Move(FileTool):
    name: ClassVar[str] = "files.move"
    needs_profile: ClassVar[str] = "build"
    summary: ClassVar[str] = "Moves or renames a file or folder of the workspace; never over something that is there."
    effect: ClassVar[Effect] = Effect.REPEATABLE
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "path": _path("What is moved, relative to the work tree."),
            "to": _path("Its whole new path; folders on the way are made."),
        },
        "required": ["path", "to"],
        "additionalProperties": False,
    }
    examples: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"path": "src/money.py", "to": "src/shop/money.py"},
        {"path": "ci.yml", "to": ".github/workflows/ci.yml"},
    )
    undone_by: ClassVar[str] = "`files.move` back."

    def check(self, arguments: Mapping[str, Any]) -> None:
        check_file_path(arguments["path"], folder=True)
        check_file_path(arguments["to"], folder=True)

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        scores = [write_risk(arguments[name]) for name in ("to", "path")]
        return next((score for score in scores if score.level is Risk.MEDIUM), scores[0])

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"move {arguments['path']} to {arguments['to']}"

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        return _identity(box, arguments["path"])

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        """What is moved: the paths below it."""
        with Beneath(box.workspace.tree) as tree:
            try:
                tree.facts(arguments["to"])
            except NotThere:
                return _listed(tree, arguments["path"], f"-> {arguments['to']}")
        raise ToolRefused(f"{arguments['to']} is there already.")

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        source, target = arguments["path"], arguments["to"]
        journal = Journal(box, arguments)
        found = self._found(arguments, box, journal)
        if found is not None:
            return found
        try:
            with Beneath(box.workspace.tree) as tree:
                facts = tree.facts(source)
                journal.write({"inode": facts.st_ino, "device": facts.st_dev})
                tree.move(source, target)
        except NotThere as error:
            return not_there(source, error)
        return _moved(source, target)

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        """By the notes of the attempt: does what it was about to move stand at its new path?"""
        return self._found(arguments, box, Journal(box, arguments))

    def _found(self, arguments: Mapping[str, Any], box: Box, journal: Journal) -> Result | None:
        notes = journal.read()
        if notes is None:
            return None
        with Beneath(box.workspace.tree) as tree:
            try:
                facts = tree.facts(arguments["to"])
            except NotThere:
                return None
            if (facts.st_ino, facts.st_dev) != (notes["inode"], notes["device"]):
                return None
        return _moved(arguments["path"], arguments["to"])


class Delete(FileTool):
    """What is deleted leaves the work tree in one step; a folder's contents are removed after that, outside it."""

    name: ClassVar[str] = "files.delete"
    needs_profile: ClassVar[str] = "build"
    makes_room: ClassVar[bool] = True
    summary: ClassVar[str] = "Deletes a file of the workspace, or a folder with all that it holds."
    effect: ClassVar[Effect] = Effect.REPEATABLE
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "path": _path("What is deleted, relative to the work tree; of a symbolic link the link."),
            "recursive": {"type": "boolean", "description": "A folder that is not empty is deleted with this alone."},
        },
        "required": ["path"],
        "additionalProperties": False,
    }
    examples: ClassVar[Sequence[Mapping[str, Any]]] = ({"path": "notes.txt"}, {"path": "build", "recursive": True})
    undone_by: ClassVar[str] = (
        "Nothing by itself: what git tracks comes back by `git.checkout`, the rest by a fork from a snapshot."
    )

    def check(self, arguments: Mapping[str, Any]) -> None:
        check_file_path(arguments["path"], folder=True)

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        score = write_risk(arguments["path"])
        if arguments.get("recursive"):
            return RiskScore(level=Risk.MEDIUM, reasons=("deletes a folder with all that it holds",))
        return score

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"delete {arguments['path']}{' and all below it' if arguments.get('recursive') else ''}"

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        return _identity(box, arguments["path"])

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        """What is deleted: the paths below it."""
        with Beneath(box.workspace.tree) as tree:
            return _listed(tree, arguments["path"], "is deleted")

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        path = arguments["path"]
        journal = Journal(box, arguments)
        try:
            with Beneath(box.workspace.tree) as tree:
                below = _count(tree, path)
                if below and not arguments.get("recursive"):
                    return Result(
                        ok=False,
                        summary=f"{path} is a folder and not empty: say recursive to delete it with all that it holds.",
                        data={"path": path, "entries": below, "error_code": "not_empty"},
                    )
                journal.clear_taken()
                journal.write({"entries": below})
                tree.take_out(path, journal.place, journal.taken.name)
        except NotThere as error:
            done = self.probe(arguments, {}, box)
            if done is None:
                return not_there(path, error)
        journal.clear_taken()
        return _deleted(path, int((journal.read() or {}).get("entries", 0)))

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        """By the notes of the attempt: it was about to delete this, and nothing stands there now."""
        notes = Journal(box, arguments).read()
        if notes is None:
            return None
        with Beneath(box.workspace.tree) as tree:
            try:
                tree.facts(arguments["path"])
            except NotThere:
                return _deleted(arguments["path"], int(notes.get("entries", 0)))
        return None


class MakeFolder(FileTool):
    name: ClassVar[str] = "files.mkdir"
    needs_profile: ClassVar[str] = "build"
    summary: ClassVar[str] = "Makes a folder of the workspace, and those above it; one that is there is fine."
    effect: ClassVar[Effect] = Effect.REPEATABLE
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"path": _path("The folder, relative to the work tree.")},
        "required": ["path"],
        "additionalProperties": False,
    }
    examples: ClassVar[Sequence[Mapping[str, Any]]] = ({"path": "src/shop"},)
    undone_by: ClassVar[str] = "`files.delete`."

    def check(self, arguments: Mapping[str, Any]) -> None:
        check_file_path(arguments["path"], folder=True)

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("writes inside the job's own workspace",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"make the folder {arguments['path']}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        path = arguments["path"]
        try:
            with Beneath(box.workspace.tree) as tree:
                is_new = tree.make_folder(path)
        except NotThere as error:
            return not_there(path, error)
        said = f"Made the folder {path}." if is_new else f"The folder {path} is there."
        return Result(ok=True, summary=said, data={"path": path, "created": is_new}, text=said)

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        with Beneath(box.workspace.tree) as tree:
            try:
                is_there = tree.kind(arguments["path"]) == "folder"
            except NotThere:
                return None
        said = f"The folder {arguments['path']} is there."
        return Result(ok=True, summary=said, data={"path": arguments["path"]}, text=said) if is_there else None


def _identity(box: Box, path: str) -> dict[str, Any]:
    """Which thing stands at the path: what an approver saw is what is touched, with what it holds then."""
    with Beneath(box.workspace.tree) as tree:
        try:
            facts = tree.facts(path)
        except NotThere:
            return {"there": False}
        # as texts: nanoseconds are beyond what JSON holds exactly, and a digest refuses them
        return {"there": True, "inode": str(facts.st_ino), "changed_ns": str(facts.st_mtime_ns)}


def _count(tree: Beneath, path: str) -> int:
    """How many things the folder holds, up to a bound; 0 of what is no folder.

    Raises:
        NotThere: nothing stands there.
        ToolRefused: the way there leads over a symbolic link.
    """
    tree.facts(path)
    try:
        return len(tree.entries(path, depth=100, limit=_COUNTED_MAX))
    except (NotThere, ToolRefused):  # a file, or a link, which is deleted itself
        return 0


def _listed(tree: Beneath, path: str, how: str) -> str:
    try:
        tree.facts(path)
    except NotThere as error:
        raise ToolFailed(str(error)) from None
    try:
        found = tree.entries(path, depth=100, limit=_COUNTED_MAX)
    except (NotThere, ToolRefused):
        return f"{path} {how}\n"
    more = f"  … and {len(found) - _LISTED_MAX} more\n" if len(found) > _LISTED_MAX else ""
    return (
        f"{path}/ {how}, with {len(found)} things in it\n"
        + "".join(f"  {entry.path}\n" for entry in found[:_LISTED_MAX])
        + more
    )


def _moved(source: str, target: str) -> Result:
    said = f"Moved {source} to {target}."
    return Result(ok=True, summary=said, data={"path": source, "to": target}, text=said)


def _deleted(path: str, below: int) -> Result:
    said = f"Deleted {path}" + (f" with {below} things in it." if below else ".")
    return Result(ok=True, summary=said, data={"path": path, "entries": below}, text=said)


TOOLS = tuple(register(tool()) for tool in (Move, Delete, MakeFolder))
