"""What is known to be harmless is low, what is known not to be is high, and the rest is asked about."""

import pytest

from tools import commands
from tools.builtin.commands import judge, score
from tools.builtin.shell import Exec, Script
from tools.errors import InvalidArguments, ToolRefused
from tools.registry import validate
from tools.spec import Risk

LOW = [
    "ls -la src", "cat README.md", "grep -rn --include=*.py -A 3 pattern .", "python3 -m unittest -v", "pytest -q",
    "head -n 20 x", "head -20 x", "wc -l x", "git status", "git log --oneline", "find . -name *.py", "sed -n 1,20p x",
    "make test", "npm test", "sort -k 2 x", "echo -rf /", "python3 --version", "true", "diff -u a b", "env CI=1 ls",
    "timeout 5 grep x y", "sh -c ls", "grep -f x y", "jq --arg a b .x f", "find . -name x -exec grep -n y {} +",
]  # fmt: skip
MEDIUM = [
    "python3 tool.py", "./run.sh", "make", "cat /etc/passwd", "cat ../x", "sort -o x y", "sort -uo x y", "uniq a b",
    "mkdir x", "rm x", "sed -i s/a/b/ x", "git commit -m x", "git diff --output=x", "touch x", "cat -- /etc/passwd",
    "xargs grep x", "nice -n 5 make", "cp a b", "python3 -m tool", "tar xzf a.tgz", "sh build.sh",
]  # fmt: skip
HIGH = [
    "rm -rf x", "rm -fr x", "rm --recursive x", "curl http://x", "ssh host", "sudo ls", "xargs rm", "eval ls",
    "ls --hyperlink", "unknown", "date -s now", "env PATH=. ls", "timeout --what 5 ls", "cp a /etc/x", "bash -lc ls", "python3 -c 1", "python3 -Bc 1", "perl -ne 1", "node --eval 1", "python3", "sh -", "find . -delete",
    "find . -exec rm {} +", "git push", "git reset --hard", "git -c x=y status", "dd if=a of=b", "docker ps", "nohup ls",
]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "level"),
    [*[(c, Risk.LOW) for c in LOW], *[(c, Risk.MEDIUM) for c in MEDIUM], *[(c, Risk.HIGH) for c in HIGH]],
)
def test_a_command_is_judged(command: str, level: Risk) -> None:
    found, reason = judge(command.split())
    assert found is level, reason
    assert reason


def test_one_dangerous_command_among_many_decides() -> None:
    found = score([["ls"]] * 500 + [["curl", "x"]] + [["unknown"]])
    assert found.level is Risk.HIGH
    assert set(found.reasons) == {
        "curl wants the network",
        "curl wants the network: x",
        "unknown is not a program that is known here",
    }


def test_what_find_finds_is_told_as_people_write_it() -> None:
    """No row takes NUL: a step whose reasons hold one would never begin."""
    argv = ["find", "..", "/", "-exec", "cp", "{}", "{}.bak", ";", "-exec", "python3", "{}", ";"]
    told = repr(commands.read([argv]))
    assert "\\x00" not in told
    assert "changes ../{}" in told


def test_hosts_are_told_as_the_wire_has_them() -> None:
    reasons = Exec().risk({"argv": ["ls"], "network": ["p\u0443pi.org"]}).reasons
    assert reasons[0] == "it may reach xn--ppi-dfd.org over the network"


def test_a_module_is_named_with_all_that_runs_before_it() -> None:
    read = commands.read([["python3", "-m", "json.tool", "a.json"]])
    assert {"json.py", "json/__init__.py", "json/tool.py", "json/tool/__main__.py"} <= set(read.scripts)


def test_a_script_is_judged_by_its_commands_and_an_opaque_one_is_high() -> None:
    tool = Script()
    assert tool.risk({"script": "ls && python3 -m unittest"}).level is Risk.LOW
    assert tool.risk({"script": "ls; rm -rf x"}).level is Risk.HIGH
    opaque = tool.risk({"script": "ls > x"})
    assert opaque.level is Risk.HIGH
    assert "cannot be judged" in opaque.reasons[0]


def test_what_an_approver_reads_is_the_command() -> None:
    arguments = {"argv": ["grep", "-n", "a b", "x"], "cwd": "src dir", "env": {"CI": "1 2"}}
    assert Exec().describe(arguments) == "cd 'src dir' && CI='1 2' grep -n 'a b' x"
    assert Script().describe({"script": "ls   # hidden\npwd"}) == "ls\npwd"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"argv": []}, InvalidArguments),
        ({"argv": ["ls\0"]}, InvalidArguments),
        ({"argv": ["-x"]}, InvalidArguments),
        ({"argv": [" "]}, InvalidArguments),
        ({"argv": ["ls"], "shell": True}, InvalidArguments),
        ({"argv": ["ls"], "timeout_s": 0}, InvalidArguments),
        ({"argv": ["ls"], "cwd": "../x"}, ToolRefused),
        ({"argv": ["ls"], "cwd": "/etc"}, ToolRefused),
        ({"argv": ["ls"], "env": {"LD_PRELOAD": "x"}}, ToolRefused),
        ({"argv": ["ls"], "env": {"PATH": "x"}}, ToolRefused),
        ({"argv": ["ls"], "env": {"GIT_DIR": "x"}}, ToolRefused),
        ({"argv": ["ls"], "env": {"PYTHONPATH": "x"}}, ToolRefused),
    ],
)
def test_arguments_that_are_no_command_are_refused(arguments: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        validate(Exec(), arguments)
