"""Begins a plugin: a package that installs, with a tool, its tests and a page about itself."""

import re
from pathlib import Path
from string import Template

from tools.errors import ToolError
from tools.plugins import GROUP

_NAME = re.compile(r"[a-z][a-z0-9_]{1,30}")

_PYPROJECT = Template("""\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "countersign-$dashed"
version = "0.1.0"
description = "Tools for Countersign: $name"
readme = "README.md"
requires-python = ">=3.11"

[project.entry-points."$group"]
$name = "countersign_$name:TOOLS"

[tool.setuptools.packages.find]
where = ["src"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["src"]
""")

_INIT = Template('''\
"""Tools for Countersign: $name. `TOOLS` is what the entry point names."""

from countersign_$name.count import CountLines

TOOLS = [CountLines]
''')

_TOOL = Template('''\
"""Counts the lines of a file. Replace it by what your tool does."""

from collections.abc import Mapping
from typing import Any, ClassVar

from tools.errors import ToolFailed, ToolRefused
from tools.spec import Box, Effect, Limits, Result, Risk, RiskScore, Tool


class CountLines(Tool):
    """READ: it changes nothing. REPEATABLE may run again after a loss; ONCE may have happened, and wants a `probe`."""

    name: ClassVar[str] = "$name.count_lines"
    summary: ClassVar[str] = "Counts the lines of a file in the workspace."
    effect: ClassVar[Effect] = Effect.READ
    queue: ClassVar[str] = "shell"
    limits: ClassVar[Limits] = Limits(timeout_s=30.0)
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "path": {"type": "string", "minLength": 1, "maxLength": 500, "description": "The file, from the workspace's top."}
        },
        "required": ["path"],
        "additionalProperties": False,
    }
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"path": "README.md"},)

    def check(self, arguments: Mapping[str, Any]) -> None:
        """What the schema cannot say. Pure: it looks at nothing but the arguments."""
        path = arguments["path"]
        if path.startswith("/") or ".." in path.split("/") or not path.isprintable():
            raise ToolRefused("The path is one within the workspace.", path=path[:200])

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("reads one file",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"count the lines of {arguments['path']}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        """Whatever comes from outside, such as names and contents of files, is handled in the sandbox: by `box.run`."""
        done = box.run(["wc", "-l", "--", arguments["path"]], profile="read")
        if not done.ok:
            raise ToolFailed(f"wc could not count: {done.stderr[:200]}")
        lines = int(done.stdout.split()[0])
        return Result(ok=True, summary=f"{lines} lines", data={"lines": lines}, text=f"{lines}", exit_code=done.exit_code)
''')

_TEST = Template('''\
"""The contract that every tool keeps, and what this one does."""

from countersign_$name.count import CountLines
from tools.plugins.contract import ToolContract


class TestCountLines(ToolContract):
    tool = CountLines
    files = {"notes.txt": "one\\ntwo\\nthree\\n"}
    works = {"path": "notes.txt"}

    def test_it_counts(self, box):
        assert CountLines().run(self.works, box).data == {"lines": 3}
''')

_README = Template("""\
# countersign-$dashed

Tools for Countersign. In the folder of the server:

    bin/manage plugin test $folder      runs the tests, with the contract of every tool
    .venv/bin/python -m pip install $folder
    bin/manage plugin sync              notes what it brings; nothing of it is imported yet
    bin/manage plugin show $name.count_lines
    bin/manage plugin enable $name.count_lines --sha256 …

Then publish a rule for `$name.*`: what no rule names is denied. After an update of the package, restart the workers and
the web server first.
""")


class NotMade(ToolError):
    """The folder is taken, or the name is none."""

    code = "scaffold_refused"


def make(name: str, folder: Path) -> list[Path]:
    """Writes the plugin `name` into `folder`, which is made or empty. Gives the files. Raises NotMade."""
    if not _NAME.fullmatch(name):
        raise NotMade("A plugin's name is 2 to 31 of a-z, 0-9 and _, and begins with a letter.")
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NotMade(f"{folder} is there already, and not an empty folder.")
    words = {"name": name, "dashed": name.replace("_", "-"), "group": GROUP, "folder": str(folder)}
    package = f"src/countersign_{name}"
    files = {
        "pyproject.toml": _PYPROJECT,
        "README.md": _README,
        f"{package}/__init__.py": _INIT,
        f"{package}/count.py": _TOOL,
        "tests/test_count.py": _TEST,
    }
    made = []
    for path, template in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(template.substitute(words), encoding="utf-8")
        made.append(target)
    return made
