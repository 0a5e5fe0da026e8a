"""Plugins for tests: packages as an installer leaves them, in a folder that is put on the path."""

import base64
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

from tools import registry
from tools.plugins import GROUP, loading

TOOL = """
from typing import Any, ClassVar
from tools.spec import Effect, Result, Tool

RAN = []

class Greet(Tool):
    name: ClassVar[str] = "greeting.say"
    summary: ClassVar[str] = "Greets somebody."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 100}},
        "required": ["name"],
        "additionalProperties": False,
    }
    effect: ClassVar[Effect] = Effect.REPEATABLE
    queue: ClassVar[str] = "shell"
    examples = ({"name": "Ada"},)

    def describe(self, arguments):
        return f"greet {arguments['name']}"

    def run(self, arguments, box):
        RAN.append(arguments["name"])
        return Result(ok=True, summary=f"Hello, {arguments['name']}")
"""


def install(folder: Path, dist: str, files: dict[str, str], *entries: str, version: str = "1.0") -> None:
    """Writes the distribution's files, its metadata and its RECORD."""
    info = f"{dist.replace('-', '_')}-{version}.dist-info"
    lines = "".join(f"tool{number} = {entry}\n" for number, entry in enumerate(entries))
    given = {name: dedent(text) for name, text in files.items()}
    given[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n"
    given[f"{info}/entry_points.txt"] = f"[{GROUP}]\n{lines}"
    record = f"{info}/RECORD,,\n"
    for name, text in given.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text.encode())}\n"
    (folder / info / "RECORD").write_text(record)


@contextmanager
def on_path(folder: Path) -> Iterator[Path]:
    """As another process would see it: what was imported from there is forgotten at the end, and so are the tools."""
    sys.path.insert(0, str(folder))
    before = dict(loading._imported)
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        restart(folder, before)


def restart(folder: Path, imported: dict[str, str] | None = None) -> None:
    """What a process that starts anew knows of the plugins in this folder."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "") or "").startswith(f"{folder}/"):
            del sys.modules[name]
    loading._imported.clear()
    loading._imported.update(imported or {})
    registry.forget()
