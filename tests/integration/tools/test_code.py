"""code.test, code.lint and code.format over real projects, with the real programs where they are here."""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.ids import uuid7
from tools.box import SandboxBox
from tools.errors import InvalidArguments, ToolRefused
from tools.registry import get, validate
from tools.spec import Effect, Result, Risk
from tools.workspaces import remove, workspace_for

TESTS = """import unittest
from pkg.money import cents


class Money(unittest.TestCase):
    def test_whole(self):
        self.assertEqual(cents(1), 100)

    def test_rounds(self):
        self.assertEqual(cents(0.29), 29, "half a cent")

    @unittest.skip("later")
    def test_later(self):
        pass
"""
MONEY = "import os\ndef cents(x):\n    return  int(x * 100)\n"


@pytest.fixture
def box() -> Iterator[SandboxBox]:
    made = workspace_for(str(uuid7()))
    yield SandboxBox(made, limits=get("code.test").limits, call_id="test")
    remove(made.id)


def run(name: str, box: SandboxBox, **arguments: object) -> Result:
    validate(get(name), arguments)
    return get(name).run(arguments, box)


def put(box: SandboxBox, files: dict[str, str]) -> None:
    for path, text in files.items():
        assert get("files.write").run({"path": path, "content": text}, box).ok


def python_project(box: SandboxBox, **more: str) -> None:
    put(
        box,
        {"pkg/__init__.py": "", "pkg/money.py": MONEY, "tests/__init__.py": "", "tests/test_money.py": TESTS, **more},
    )


def environment(box: SandboxBox, *, packages: tuple[str, ...] = (), programs: tuple[str, ...] = ()) -> None:
    """A virtual environment of the project's own with what this server's has."""
    version = box.run(
        ["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"]
    ).stdout.split()
    top = box.workspace.tree / ".venv"
    (top / "bin").mkdir(parents=True)
    (top / "bin/python").symlink_to(version[1])
    (top / "pyvenv.cfg").write_text(f"home = {Path(version[1]).parent}\n")
    site = top / f"lib/python{version[0]}/site-packages"
    site.mkdir(parents=True)
    for name in packages:
        source = Path(str(importlib.import_module(name).__file__))
        if source.name == "__init__.py":
            shutil.copytree(source.parent, site / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, site)
    for name in programs:
        shutil.copy(Path(sys.executable).parent / name, top / "bin")
    assert subprocess.run(["chmod", "-R", "a+rX", str(top)], check=False).returncode == 0


def test_unittest_is_found_run_and_counted(box: SandboxBox) -> None:
    python_project(box)
    tool = get("code.test")
    assert tool.preview({}, box) == "python3 -m unittest discover\n    as tests/test_money.py says\n"
    state = tool.target_state({}, box)
    assert state["commands"] == [["python3", "-m", "unittest", "discover"]] and list(state["files"]) == [
        "tests/test_money.py"
    ]
    done = run("code.test", box)
    assert not done.ok and done.summary == "unittest: 1 passed, 1 failed, 1 skipped"
    (finding,) = done.data["checks"]["findings"]
    assert (finding["file"], finding["line"], finding["severity"]) == ("tests/test_money.py", 10, "failure")
    assert finding["message"] == "AssertionError: 28 != 29 : half a cent"
    assert "tests/test_money.py:10: test_rounds (tests.test_money.Money.test_rounds): AssertionError" in done.text
    assert done.exit_code == 1 and done.sandbox["network"] == "none" and done.sandbox["profiles"] == ["build"]
    put(box, {"pkg/money.py": "def cents(x):\n    return round(x * 100)\n"})
    assert tool.target_state({}, box) == state
    fixed = run("code.test", box, only=["tests.test_money"])
    assert fixed.ok and fixed.summary == "unittest: 2 passed, 1 skipped"


def test_pytest_of_the_projects_own_environment(box: SandboxBox) -> None:
    environment(box, packages=("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py"))
    python_project(box, **{
        "pyproject.toml": "[tool.pytest.ini_options]\ntestpaths = ['tests']\n",
        "tests/test_more.py": "import pytest\n\n\n@pytest.fixture\ndef broken():\n    raise OSError('no')\n\n\n"
        "def test_it(broken): pass\n\n\n@pytest.mark.parametrize('n', [1, 2])\ndef test_n(n):\n    assert n == 1\n",
    })  # fmt: skip
    done = run("code.test", box)
    assert done.summary == "pytest: 2 passed, 2 failed, 1 error, 1 skipped", done.text
    found = {(one["file"], one["line"], one["name"], one["severity"]) for one in done.data["checks"]["findings"]}
    assert found == {
        ("tests/test_money.py", 10, "tests.test_money.Money.test_rounds", "failure"),
        ("tests/test_more.py", 14, "tests.test_more.test_n[2]", "failure"),
        ("tests/test_more.py", 6, "tests.test_more.test_it", "error"),
    }
    assert list(box.workspace.scratch.glob("report-*")) == []
    one = run("code.test", box, only=["tests/test_more.py::test_n"])
    assert one.summary == "pytest: 1 passed, 1 failed"


@pytest.mark.skipif(
    shutil.which("npm", path="/usr/local/bin:/usr/bin:/bin") is None, reason="no npm where commands run"
)
def test_npm_test_runs_the_projects_script(box: SandboxBox) -> None:
    test = (
        "const test = require('node:test');\nconst assert = require('node:assert');\n"
        "test('adds', () => { assert.strictEqual(1 + 1, 2); });\n"
        "test('rounds', () => {\n  assert.strictEqual(28, 29);\n});\ntest.skip('later', () => {});\n"
    )
    package = {"name": "shop", "version": "1.0.0", "scripts": {"test": "node --test", "lint": "node lint.js"}}
    lint = "console.log('src/a.js:3:1: error: no semicolon'); process.exit(1)"
    put(box, {"package.json": json.dumps(package), "test/a.test.js": test, "lint.js": lint})
    done = run("code.test", box)
    assert (done.ok, done.summary) == (False, "npm: 1 passed, 1 failed, 1 skipped"), done.text
    (finding,) = done.data["checks"]["findings"]
    assert (finding["file"], finding["line"], finding["name"]) == ("test/a.test.js", 5, "rounds")
    assert done.data["checks"]["runs"][0]["because"] == "package.json: node --test"
    linted = run("code.lint", box)
    assert not linted.ok and linted.text.startswith("[npm: 1 error]\nsrc/a.js:3:1: no semicolon\n")
    with pytest.raises(ToolRefused, match="runs all tests"):
        run("code.test", box, only=["x"])


def test_make_test_is_the_last_resort_and_a_choice(box: SandboxBox) -> None:
    make = "test: build\n\t@echo '1..2'; echo 'ok 1 - a'; echo 'not ok 2 - b'; exit 1\nbuild:\n\t@true\n"
    put(box, {"Makefile": make})
    done = run("code.test", box)
    assert (done.ok, done.summary) == (False, "make: 1 passed, 1 failed")
    python_project(box)
    both = run("code.test", box)
    assert both.summary.startswith("unittest:") and both.data["others"] == ["make"]
    assert run("code.test", box, program="make").summary == "make: 1 passed, 1 failed"


def test_ruff_lints_and_formats(box: SandboxBox) -> None:
    environment(box, programs=("ruff",))
    python_project(box, **{"ruff.toml": "line-length = 100\n", "bad.py": "def f(:\n"})
    linted = run("code.lint", box)
    found = {(one["file"], one["line"], one["name"]) for one in linted.data["checks"]["findings"]}
    assert not linted.ok and ("pkg/money.py", 1, "F401") in found and any(file == "bad.py" for file, _, _ in found)
    assert linted.data["checks"]["counts"]["errors"] == len(found)
    assert run("files.delete", box, path="bad.py").ok
    before = (box.workspace.tree / "pkg/money.py").read_text()
    assert "would change" in (checked := run("code.format", box, check=True)).summary
    assert not checked.ok and checked.data["files"] == ["pkg/money.py"]
    assert (box.workspace.tree / "pkg/money.py").read_text() == before
    done = run("code.format", box)
    assert (done.ok, done.summary, done.data["files"]) == (True, "ruff: 1 file changed", ["pkg/money.py"])
    assert "return int(x * 100)" in (box.workspace.tree / "pkg/money.py").read_text()
    assert run("code.format", box, check=True).summary == "ruff: no file needs it"


def test_what_is_not_installed_is_said(box: SandboxBox) -> None:
    put(box, {"go.mod": "module example.org/x\n", "a.go": "package x\n"})
    if shutil.which("go", path="/usr/local/bin:/usr/bin:/bin"):
        pytest.skip("go is here")
    done = run("code.test", box)
    assert not done.ok and done.summary == "go is not installed where commands run."
    assert done.data["error_code"] == "not_installed"
    assert "not installed" in run("code.lint", box).summary
    assert "not installed" in run("code.format", box, check=True).summary


def test_a_project_is_found_in_its_folder_and_nothing_is_guessed(box: SandboxBox) -> None:
    with pytest.raises(ToolRefused, match="none that is known"):
        run("code.test", box)
    put(
        box,
        {
            "api/tests/test_x.py": TESTS.replace("from pkg.money import cents", "cents = round"),
            "api/tests/__init__.py": "",
        },
    )
    done = run("code.test", box, cwd="api")
    assert done.data["checks"]["findings"][0]["file"] == "api/tests/test_x.py"
    for arguments, error in (
        ({"cwd": "../x"}, ToolRefused),
        ({"cwd": "missing"}, ToolRefused),
        ({"cwd": "api", "program": "cargo"}, ToolRefused),
        ({"only": ["-k"]}, InvalidArguments),
        ({"only": ["--rootdir=/"]}, InvalidArguments),
        ({"program": "sh"}, InvalidArguments),
    ):
        with pytest.raises(error):
            run("code.test", box, **arguments)
    (box.workspace.tree / "out").symlink_to("/etc")
    with pytest.raises(ToolRefused):
        run("code.test", box, cwd="out")


@pytest.mark.parametrize(
    ("files", "testers", "linters", "formatters"),
    [
        ({"Cargo.toml": "[package]\nname='x'\n"}, ["cargo"], ["clippy"], ["cargo-fmt"]),
        ({"go.mod": "module x\n"}, ["go"], ["go-vet"], ["gofmt"]),
        ({"setup.cfg": "[flake8]\n[mypy]\n[tool:pytest]\n"}, ["pytest"], ["flake8", "mypy"], []),
        ({"pyproject.toml": "[tool.black]\n[tool.ruff]\n[tool.mypy]\n"}, [], ["ruff", "mypy"], ["black"]),
        ({"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'}, [], [], []),
        ({"package.json": "[" * 100_000, "pyproject.toml": "x = [" * 9999, "setup.cfg": "]["}, [], [], []),
        ({"package.json": "{}", ".prettierrc": "", "node_modules/.bin/prettier": ""}, [], [], ["prettier"]),
        ({"eslint.config.js": "", "node_modules/.bin/eslint": ""}, [], ["eslint"], []),
        ({"Makefile": "check:\n\ttrue\nlint: x\n\ttrue\n"}, ["make"], ["make"], []),
    ],
)
def test_which_commands_a_project_has(
    files: dict[str, str], testers: list[str], linters: list[str], formatters: list[str], box: SandboxBox
) -> None:
    from tools.builtin.beneath import Beneath
    from tools.builtin.code import detect

    put(box, files)
    with Beneath(box.workspace.tree) as tree:
        project = detect.Project(tree)
        assert [one.name for one in detect.testers(project)] == testers
        assert [one.name for one in detect.linters(project)] == linters
        assert [one.name for one in detect.formatters(project)] == formatters


def test_what_they_say_of_themselves() -> None:
    for name in ("code.test", "code.lint", "code.format"):
        tool = get(name)
        assert (tool.effect, tool.queue, tool.risk({}).level) == (Effect.REPEATABLE, "shell", Risk.MEDIUM)
        for example in tool.examples:
            validate(tool, example)
            assert tool.describe(example)
