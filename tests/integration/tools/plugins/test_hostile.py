"""Packages that misbehave, and what their author and the operator are told of them."""

import os
import socket
import subprocess
import sys

import pytest

from config.doctor import plugins as doctor
from tests.factories import plugins
from tests.integration.tools.plugins.conftest import TOOL, enable, row, sync
from tools import admission, registry
from tools.errors import InvalidArguments, ToolFailed
from tools.models import ToolDefinition
from tools.plugins import inspecting
from tools.spec import Risk

pytestmark = pytest.mark.django_db(transaction=True)


# hostile plugins


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("while True: pass", "timeout"),
        ("import os; os._exit(3)", "no answer"),
        ("raise RuntimeError('boom')", "boom"),
        ("TOOLS = 5", "no class of a tool"),
        ("TOOLS = []", "empty list"),
        ("import no_such; TOOLS = [no_such.Tool]", "no class of a tool"),
        ('print(\'{"entry": "bad_tools:TOOLS", "tools": [{"name": "x.y"}]}\'); raise RuntimeError(\'after\')', "after"),
    ],
)
def test_a_plugin_that_misbehaves_is_told_and_brings_nothing(folder, monkeypatch, code, said):
    monkeypatch.setattr(inspecting, "_LIMITS", inspecting.Limits(timeout_s=3.0, output_head_bytes=65536))
    plugins.install(folder, "bad", {"bad_tools.py": code}, "bad_tools:TOOLS")
    changed, problems = sync()
    assert changed == []
    assert len(problems) == 1 and problems[0].startswith("plugin:bad: ") and said in problems[0]


def test_a_package_that_names_the_servers_own_code_brings_nothing(folder):
    plugins.install(folder, "bad", {"bad_tools.py": ""}, "tools.builtin.human:Ask")
    assert sync() == ([], ["plugin:bad: tools is the server's own."])


def test_looking_at_a_plugin_lets_it_do_nothing(folder):
    """It is asked in the sandbox: no file outside, no network, no environment of the server."""
    outside = folder / "outside"
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"""
            import os, socket
            SAID = []
            try:
                open({str(outside)!r}, "w")
            except OSError:
                SAID.append("no-file")
            try:
                socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), 1)
            except OSError:
                SAID.append("no-network")
            if "DATABASE_URL" not in os.environ and "SECRET_KEY" not in os.environ:
                SAID.append("no-environment")
            """
        plugins.install(
            folder,
            "bad",
            {
                "bad_probe.py": code,
                "bad_tools.py": plugins.TOOL.replace('"Greets somebody."', '"-".join(__import__("bad_probe").SAID)'),
            },
            "bad_tools:Greet",
        )
        changed, problems = sync()
    assert problems == []
    assert changed[0].definition["summary"] == "no-file-no-network-no-environment"
    assert not outside.exists()


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ('"greeting.say"', '"files.say"', "the server's own"),
        ('"greeting.say"', '"mcp.say"', "the server's own"),
        ('"greeting.say"', '"Greeting"', "Its name is not like"),
        ('"additionalProperties": False,', "", "additionalProperties"),
        ('{"type": "string", "maxLength": 100}', '{"$ref": "https://example.org/x"}', "$ref"),
        ('{"type": "string", "maxLength": 100}', '{"type": "strong"}', "no JSON Schema"),
        ('({"name": "Ada"},)', '({"nome": "Ada"},)', "example 1"),
        ("Greets somebody.", "Greets\\u202e somebody.", "cannot be seen"),
        ('ClassVar[str] = "shell"', 'ClassVar[str] = "shell"\n    asks_person = True', "server's own tools"),
        ("Effect.REPEATABLE", '"harmless"', "Its effect is none"),
    ],
)
def test_a_tool_that_is_not_admissible_cannot_be_enabled(folder, was, now, said):
    assert was in plugins.TOOL
    plugins.install(folder, "bad", {"bad_tools.py": plugins.TOOL.replace(was, now)}, "bad_tools:Greet")
    changed, problems = sync()
    assert said in " ".join([*problems, *(one.problem for one in changed)])
    for one in changed:
        with pytest.raises(admission.Refused, match="cannot be enabled"):
            enable(one.name)


def test_a_second_package_cannot_take_a_tool_over(greeting):
    plugins.install(greeting, "zz-second", {"zz_second.py": plugins.TOOL}, "zz_second:Greet")
    _, problems = sync()
    assert row().origin == "plugin:greeting"
    assert "is a tool of plugin:greeting already" in problems[0]
    enable()


def test_a_tool_that_breaks_on_its_arguments_breaks_no_page(greeting):
    broken = plugins.TOOL.replace("return f\"greet {arguments['name']}\"", "raise KeyError('x')")
    broken += "    def risk(self, arguments):\n        raise KeyError('x')\n"
    broken += "    def check(self, arguments):\n        raise KeyError('x')\n"
    broken = broken.replace("return Result(ok=True, summary=f\"Hello, {arguments['name']}\")", "return None")
    plugins.install(greeting, "greeting", {"greeting_tools.py": broken}, "greeting_tools:Greet")
    sync()
    enable()
    tool = registry.get(TOOL)
    assert tool.describe({"name": "Ada"}) == TOOL
    assert tool.risk({"name": "Ada"}).level is Risk.HIGH
    with pytest.raises(InvalidArguments):
        registry.validate(tool, {"name": "Ada"})
    with pytest.raises(ToolFailed, match="no result"):
        tool.run({"name": "Ada"}, None)


# what its author and its operator are told

BROKEN = '''
from pathlib import Path
from typing import Any, ClassVar

from tools.errors import ToolFailed
from tools.plugins.contract import ToolContract
from tools.spec import Effect, Result, Tool


class Bad(Tool):
    """A READ tool that writes, forgets its examples, breaks on odd words, and moves its own arguments."""

    name: ClassVar[str] = "files.bad"
    summary: ClassVar[str] = "Is bad."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"word": {"type": "string"}, "words": {"type": "array", "items": {"type": "string"}}},
        "additionalProperties": False,
    }
    effect: ClassVar[Effect] = Effect.READ
    queue: ClassVar[str] = "shell"

    def check(self, arguments):
        arguments["word"].encode("ascii")
        arguments["words"].append("more")

    def preview(self, arguments, box):
        (box.workspace.tree / "preview").write_text("x")
        return ""

    def run(self, arguments, box):
        written = box.workspace.tree / "written"
        if written.exists():
            return None
        box.run(["touch", "written"])
        return Result(ok=True, summary="", data={"x": float("nan")})


class Once(Bad):
    effect: ClassVar[Effect] = Effect.ONCE


class TestBad(ToolContract):
    tool = Bad
    works = {"word": "a", "words": ["b"]}


class TestOnce(TestBad):
    tool = Once
'''
CAUGHT = (
    "test_its_definition_can_be_admitted",
    "test_it_has_examples_that_fit",
    "test_it_is_not_moved_by_hostile_words",
    "test_judging_a_call_changes_nothing",
    "test_looking_changes_nothing",
    "test_it_works",
    "test_it_may_run_again",
)


def test_the_contract_catches_a_bad_tool(tmp_path, settings):
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "test_bad.py").write_text(BROKEN)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(settings.BASE_DIR)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert [name for name in CAUGHT if f"TestBad::{name} " not in done.stdout] == []
    assert "TestOnce::test_what_once_happens_can_be_probed " in done.stdout


def test_the_doctor_says_what_nobody_has_looked_at_or_accepted(greeting):
    def said():
        return [(str(one.level), one.says) for one in doctor.tools()]

    assert "nobody has looked at it" in said()[0][1]
    sync()
    enable()
    assert said() == [("ok", "1 of 1 tools in use, as accepted")]
    (greeting / "greeting_tools.py").write_text(plugins.TOOL + "\n# other\n")
    assert "has other code here" in said()[0][1]
    sync()
    assert said() == [("warn", f"{TOOL} changed, and nobody has accepted it")]
    sys.path.remove(str(greeting))
    try:
        ToolDefinition.objects.update(enabled=True, pinned_sha256=row().found_sha256)
        assert "not installed here" in said()[0][1]
    finally:
        sys.path.insert(0, str(greeting))
