"""What is read of a command, as rules see it."""

import pytest

from approvals.policy import conditions
from approvals.policy.inputs import PolicyInput
from approvals.policy.matching import compiled
from tools.risk import programs_of


def call(text: str, tool: str = "shell.script") -> PolicyInput:
    arguments = {"script": text} if tool == "shell.script" else {"path": text}
    return PolicyInput(
        tool=tool, arguments=arguments, effect="repeatable", queue="shell", risk="low", agent="", owner="", owner_id=0,
        groups=[], repository="", branch="", labels={}, job_id="", step_id="", kind="goal",
        programs=programs_of(tool, arguments),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "allowed", "denied"),
    [
        ("rg needle src", True, True),
        ("timeout 5 rg needle", False, True),
        ("rg --no-such-option needle", False, True),
        ("rg --pre ./x needle", False, True),
        ("rg needle; " * 60 + "rm x", False, True),
        ("ls", False, False),
        ("rg $X", False, True),
    ],
)
def test_an_allow_rule_by_program_covers_only_what_is_understood(text: str, allowed: bool, denied: bool) -> None:
    rule = compiled({"programs": ["rg"]})
    assert rule.fits(call(text), strict=True) is allowed
    assert rule.fits(call(text), strict=False) is denied


@pytest.mark.parametrize(
    ("condition", "text", "expected"),
    [
        ("call.command.known", "cp a b", True),
        ("call.command.known", "cp --what a b", False),
        ("call.command.writes.exists(p, p.startsWith('deploy/'))", "cp a deploy/x", True),
        ("call.command.writes.exists(p, p.startsWith('deploy/'))", "cd deploy && touch x", True),
        ("call.command.writes.exists(p, p.startsWith('deploy/'))", "cat deploy/x", False),
        ("call.command.reads == ['a']", "cp a b", True),
        ("call.command.deletes", "find . -delete", True),
        ("call.command.network && call.command.hosts == ['https://x.example']", "curl https://x.example", True),
        ("call.command.code", "pytest -q", True),
        ("call.command.code", "echo $X", True),
        ("call.command.code", "ls", False),
    ],
)
def test_conditions_see_what_a_command_does(condition: str, text: str, expected: bool) -> None:
    conditions.check(condition)
    assert conditions.holds(condition, conditions.scope(call(text).variables())) is expected


def test_a_tool_that_runs_no_command_has_none() -> None:
    assert conditions.holds("!has(call.command)", conditions.scope(call("x", tool="files.read").variables()))
    assert call("x", tool="files.read").command is None
