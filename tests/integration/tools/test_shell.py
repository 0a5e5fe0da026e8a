"""The shell tools in the real sandbox."""

from collections.abc import Iterator

import pytest

from audit.ids import uuid7
from tools.box import SandboxBox
from tools.registry import get, validate
from tools.spec import Effect, Limits, Result
from tools.workspaces import remove, workspace_for


@pytest.fixture
def box() -> Iterator[SandboxBox]:
    workspace = workspace_for(str(uuid7()))
    yield SandboxBox(workspace, limits=Limits(), call_id="test")
    remove(workspace.id)


def run(name: str, box: SandboxBox, **arguments: object) -> Result:
    validate(get(name), arguments)
    return get(name).run(arguments, box)


def test_words_are_words_and_no_shell_reads_them(box: SandboxBox) -> None:
    result = run("shell.exec", box, argv=["echo", "$HOME", "a  b", "; ls", "*"])
    assert result.ok
    assert result.data["stdout"] == "$HOME a  b ; ls *\n"
    assert result.data["exit_code"] == 0


def test_a_file_that_grew_too_large_is_said_in_words(box: SandboxBox) -> None:
    code = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL); open('x', 'wb').truncate(1 << 40)"
    assert (
        "killed by signal 25 (SIGXFSZ: a file would have been larger"
        in run("shell.exec", box, argv=["python3", "-c", code]).summary
    )


def test_a_command_that_fails_is_a_result_that_an_agent_reads(box: SandboxBox) -> None:
    result = run("shell.exec", box, argv=["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert not result.ok
    assert result.exit_code == 3
    assert (result.data["stdout"], result.data["stderr"]) == ("out\n", "err\n")
    assert "exit code 3" in result.summary
    assert result.text.splitlines()[1:] == ["out", "[stderr]", "err"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["sh", "-c", "echo x > /etc/x"], "/etc/x"),
        (["python3", "-c", "import socket; socket.socket()"], "Operation not permitted"),
        (["sh", "-c", "cat ../repo.git/../../x > ../repo.git/x"], "repo.git"),
    ],
)
def test_what_the_sandbox_forbids_fails_inside_and_the_step_says_so(
    argv: list[str], says: str, box: SandboxBox
) -> None:
    result = run("shell.exec", box, argv=argv)
    assert not result.ok
    assert says in result.summary
    assert "the sandbox refused" in result.summary
    assert result.data["sandbox"]["profile"] == "build"
    assert "no network" in result.text


def test_a_folder_an_environment_and_a_time_limit_are_taken(box: SandboxBox) -> None:
    (box.workspace.tree / "sub").mkdir(mode=0o755)
    result = run("shell.exec", box, argv=["sh", "-c", 'echo "$CI"; pwd'], cwd="sub", env={"CI": "yes"})
    assert result.data["stdout"] == f"yes\n{box.workspace.tree}/sub\n"
    late = run("shell.exec", box, argv=["sleep", "60"], timeout_s=0.3)
    assert not late.ok
    assert late.data["ended_by"] == "timeout"
    assert "out of time" in late.summary


def test_a_script_runs_as_a_shell_runs_it(box: SandboxBox) -> None:
    plain = run("shell.script", box, script="echo 'a  b' | tr a-z A-Z && echo \"c\" # end\necho d")
    assert plain.data["stdout"] == "A  B\nc\nd\n"
    opaque = run("shell.script", box, script="for i in 1 2; do echo $i; done > out; cat out")
    assert opaque.data["stdout"] == "1\n2\n"


def test_the_project_s_tests_run(box: SandboxBox) -> None:
    (box.workspace.tree / "test_x.py").write_text(
        "import unittest\nclass T(unittest.TestCase):\n    def test_x(self):\n        self.assertEqual(1, 2)\n"
    )
    (box.workspace.tree / "test_x.py").chmod(0o644)
    result = run("shell.exec", box, argv=["python3", "-m", "unittest"])
    assert result.exit_code == 1
    assert "AssertionError: 1 != 2" in result.text
    assert result.data["refused"] == []


def test_an_approval_holds_fast_to_the_files_that_run(box: SandboxBox) -> None:
    tool, arguments = get("shell.exec"), {"argv": ["python3", "tool.py", "data.txt"]}
    assert tool.target_state(arguments, box) == {}
    (box.workspace.tree / "tool.py").write_text("print(1)\n")
    before = tool.target_state(arguments, box)
    assert list(before["files"]) == ["tool.py"]
    assert tool.preview(arguments, box) == "== tool.py ==\nprint(1)\n"
    (box.workspace.tree / "tool.py").write_text("print(2)\n")
    assert tool.target_state(arguments, box) != before
    assert tool.target_state({"argv": ["ls", "tool.py"]}, box) == {}


def test_a_lost_attempt_may_run_again() -> None:
    assert get("shell.exec").effect is get("shell.script").effect is Effect.REPEATABLE
