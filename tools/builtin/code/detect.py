"""Which commands a project has for its tests, its linters and its formatters, by the files at its top."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from tools.builtin.beneath import Beneath, NotThere
from tools.errors import ToolRefused

_CONFIG_MAX_BYTES = 1024**2
_PYTHONS = (".venv/bin/python", "venv/bin/python", "env/bin/python")
_NO_TESTS = "no test specified"  # what `npm init` writes
_MAKE_TARGET = re.compile(r"^([A-Za-z0-9_.-]+)(?:[ \t]+[A-Za-z0-9_.-]+)*[ \t]*:(?!=)", re.MULTILINE)
JUNIT = "{junit}"  # stands for the path of the report's file

TESTERS = ("pytest", "unittest", "cargo", "go", "npm", "make")
LINTERS = ("ruff", "flake8", "mypy", "eslint", "clippy", "go-vet", "npm", "make")
FORMATTERS = ("ruff", "black", "prettier", "cargo-fmt", "gofmt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """name: one of TESTERS, LINTERS or FORMATTERS; argv: what runs; check: of a formatter, what only lists the files;
    reader: how its output is read; why: the file that says that it is the project's own; module: of a Go project."""

    name: str
    argv: tuple[str, ...]
    reader: str
    why: str
    check: tuple[str, ...] = ()
    module: str = ""


@dataclass(slots=True)
class Project:
    """The files at the top of a project, read once. `cwd` is its folder in the work tree."""

    tree: Beneath
    cwd: str = "."
    _read: dict[str, str | None] = field(default_factory=dict)
    _names: set[str] | None = None

    def text(self, name: str) -> str | None:
        """The file's text, None where there is none that can be read."""
        if name not in self._read:
            try:
                found = self.tree.read(str(PurePosixPath(self.cwd) / name), _CONFIG_MAX_BYTES)
                self._read[name] = found.decode(errors="replace")
            except (NotThere, ToolRefused):
                self._read[name] = None
        return self._read[name]

    def has(self, path: str) -> bool:
        """Does anything stand there: a link too, since programs of environments are links?"""
        try:
            self.tree.facts(str(PurePosixPath(self.cwd) / path))
        except (NotThere, ToolRefused):
            return False
        return True

    def names(self) -> set[str]:
        """What stands at the top and one level below it, files by their path."""
        if self._names is None:
            entries = self.tree.entries(
                self.cwd, depth=2, limit=3000, leave_out=frozenset({".git", "node_modules", ".venv"})
            )
            prefix = "" if self.cwd == "." else self.cwd.rstrip("/") + "/"
            self._names = {entry.path.removeprefix(prefix) for entry in entries if entry.kind == "file"}
        return self._names

    def toml(self, name: str) -> Mapping[str, Any]:
        try:
            return tomllib.loads(self.text(name) or "")
        except (tomllib.TOMLDecodeError, RecursionError):
            return {}

    def tool(self, *names: str) -> bool:
        """Has pyproject.toml a table of this tool?"""
        found = self.toml("pyproject.toml").get("tool", {})
        for name in names:
            found = found.get(name) if isinstance(found, Mapping) else None
        return isinstance(found, Mapping)

    def section(self, file: str, name: str) -> bool:
        parser = ConfigParser(strict=False, interpolation=None)
        try:
            parser.read_string(self.text(file) or "")
        except ConfigError:
            return False
        return parser.has_section(name)

    def package(self) -> Mapping[str, Any]:
        try:
            found = json.loads(self.text("package.json") or "{}")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def npm_script(self, name: str) -> str:
        scripts = self.package().get("scripts")
        found = scripts.get(name) if isinstance(scripts, dict) else ""
        return found if isinstance(found, str) else ""

    def target(self, name: str) -> str:
        """The Makefile that has the target, "" where none does."""
        for file in ("GNUmakefile", "makefile", "Makefile"):
            if name in _MAKE_TARGET.findall(self.text(file) or ""):
                return file
        return ""

    def python(self) -> str:
        """The project's own interpreter, or the sandbox's."""
        return next((path for path in _PYTHONS if self.has(path)), "python3")

    def program(self, name: str) -> tuple[str, ...]:
        """A Python program: of the project's environment, or as the sandbox finds it."""
        own = next(
            (f"{folder}/{name}" for folder in (".venv/bin", "venv/bin", "env/bin") if self.has(f"{folder}/{name}")), ""
        )
        return (own,) if own else (name,)

    def node(self, name: str) -> tuple[str, ...]:
        return (f"node_modules/.bin/{name}",) if self.has(f"node_modules/.bin/{name}") else ()


def testers(project: Project) -> list[Command]:
    """The commands that run its tests, the one that says the most first."""
    return list(_testers(project))


def _testers(project: Project) -> Iterator[Command]:
    why = _pytest(project)
    if why:
        argv = (
            project.python(),
            "-m",
            "pytest",
            "-q",
            "-o",
            "junit_family=xunit1",
            f"--junitxml={JUNIT}",
            "-p",
            "no:cacheprovider",
        )
        yield Command(name="pytest", argv=argv, reader="junit", why=why)
    elif (why := _unittest(project)) != "":
        yield Command(
            name="unittest", argv=(project.python(), "-m", "unittest", "discover"), reader="unittest", why=why
        )
    if project.text("Cargo.toml") is not None:
        yield Command(
            name="cargo", argv=("cargo", "test", "--offline", "--no-fail-fast"), reader="cargo", why="Cargo.toml"
        )
    if project.text("go.mod") is not None:
        module = re.search(r"^module\s+\"?([^\s\"]+)", project.text("go.mod") or "", re.MULTILINE)
        yield Command(
            name="go",
            argv=("go", "test", "-json", "./..."),
            reader="go",
            why="go.mod",
            module=module[1] if module else "",
        )
    if (test := project.npm_script("test")) and _NO_TESTS not in test:
        yield Command(name="npm", argv=("npm", "test", "--silent"), reader="script", why=f"package.json: {test[:200]}")
    if target := _first_target(project, "test", "check"):
        yield Command(name="make", argv=("make", target[1]), reader="script", why=f"{target[0]}: {target[1]}")


def _pytest(project: Project) -> str:
    if project.text("pytest.ini") is not None:
        return "pytest.ini"
    if project.tool("pytest"):
        return "pyproject.toml: [tool.pytest]"
    for file, section in (("setup.cfg", "tool:pytest"), ("tox.ini", "pytest")):
        if project.section(file, section):
            return f"{file}: [{section}]"
    conftest = next(
        (name for name in ("conftest.py", "tests/conftest.py", "test/conftest.py") if name in project.names()), ""
    )
    if conftest:
        return conftest
    return next(
        (
            name
            for name in _tests(project)
            if re.search(r"^[ \t]*(?:import|from) pytest\b", project.text(name) or "", re.M)
        ),
        "",
    )


def _unittest(project: Project) -> str:
    return next(
        (
            name
            for name in _tests(project)
            if re.search(r"^[ \t]*(?:import|from) unittest\b", project.text(name) or "", re.M)
        ),
        "",
    )


def _tests(project: Project) -> list[str]:
    """The first of its test files in Python."""
    names = [name for name in sorted(project.names()) if re.fullmatch(r"(?:.*/)?(?:test_[^/]*|[^/]*_test)\.py", name)]
    return names[:20]


def _first_target(project: Project, *names: str) -> tuple[str, str] | None:
    return next(((file, name) for name in names if (file := project.target(name))), None)


def linters(project: Project) -> list[Command]:
    """The commands that check it; all of them are run."""
    found = list(_linters(project))
    if found:
        return found
    if project.npm_script("lint"):
        why = f"package.json: {project.npm_script('lint')[:200]}"
        return [Command(name="npm", argv=("npm", "run", "--silent", "lint"), reader="script", why=why)]
    if target := _first_target(project, "lint"):
        return [Command(name="make", argv=("make", "lint"), reader="script", why=f"{target[0]}: lint")]
    return []


def _linters(project: Project) -> Iterator[Command]:
    why = _ruff(project)
    if why:
        argv = (*project.program("ruff"), "check", "--output-format=json-lines", "--no-cache", ".")
        yield Command(name="ruff", argv=argv, reader="ruff", why=why)
    why = ".flake8" if project.text(".flake8") is not None else ""
    why = why or next((f"{file}: [flake8]" for file in ("setup.cfg", "tox.ini") if project.section(file, "flake8")), "")
    if why:
        yield Command(name="flake8", argv=(*project.program("flake8"), "."), reader="text", why=why)
    why = next((file for file in ("mypy.ini", ".mypy.ini") if project.text(file) is not None), "")
    why = why or ("pyproject.toml: [tool.mypy]" if project.tool("mypy") else "")
    why = why or ("setup.cfg: [mypy]" if project.section("setup.cfg", "mypy") else "")
    if why:
        argv = (
            *project.program("mypy"),
            "--show-column-numbers",
            "--no-error-summary",
            "--no-pretty",
            "--cache-dir=/dev/null",
            ".",
        )
        yield Command(name="mypy", argv=argv, reader="text", why=why)
    config = next(
        (
            name
            for name in sorted(project.names())
            if re.fullmatch(r"eslint\.config\.[cm]?[jt]s|\.eslintrc(\.\w+)?", name)
        ),
        "",
    )
    if (config or "eslintConfig" in project.package()) and project.node("eslint"):
        yield Command(
            name="eslint",
            argv=(*project.node("eslint"), "-f", "json", "."),
            reader="eslint",
            why=config or "package.json",
        )
    if project.text("Cargo.toml") is not None:
        argv = ("cargo", "clippy", "--offline", "--quiet", "--message-format=json")
        yield Command(name="clippy", argv=argv, reader="clippy", why="Cargo.toml")
    if project.text("go.mod") is not None:
        yield Command(name="go-vet", argv=("go", "vet", "./..."), reader="text", why="go.mod")


def _ruff(project: Project) -> str:
    file = next((name for name in ("ruff.toml", ".ruff.toml") if project.text(name) is not None), "")
    return file or ("pyproject.toml: [tool.ruff]" if project.tool("ruff") else "")


def formatters(project: Project) -> list[Command]:
    """The commands that write its files as the project wants them; all of them are run."""
    return list(_formatters(project))


def _formatters(project: Project) -> Iterator[Command]:
    ruff = _ruff(project)
    if project.tool("black"):
        program = project.program("black")
        yield _formatter("black", (*program, "."), (*program, "--check", "."), "pyproject.toml: [tool.black]")
    elif ruff:
        program = (*project.program("ruff"), "format", "--no-cache")
        yield _formatter("ruff", (*program, "."), (*program, "--check", "."), ruff)
    config = next(
        (
            name
            for name in sorted(project.names())
            if re.fullmatch(r"\.prettierrc(\.\w+)?|prettier\.config\.[cm]?[jt]s", name)
        ),
        "",
    )
    if (config or "prettier" in project.package()) and (program := project.node("prettier")):
        yield _formatter(
            "prettier",
            (*program, "--write", "--log-level=warn", "."),
            (*program, "--list-different", "."),
            config or "package.json",
        )
    if project.text("Cargo.toml") is not None:
        yield _formatter("cargo-fmt", ("cargo", "fmt"), ("cargo", "fmt", "--", "--check", "-l"), "Cargo.toml")
    if project.text("go.mod") is not None:
        yield _formatter("gofmt", ("gofmt", "-w", "."), ("gofmt", "-l", "."), "go.mod")


def _formatter(name: str, argv: tuple[str, ...], check: tuple[str, ...], why: str) -> Command:
    return Command(name=name, argv=argv, check=check, reader="files", why=why)
