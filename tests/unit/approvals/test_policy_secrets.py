"""Rules see which secrets a call asks for."""

from dataclasses import replace
from typing import Any

import pytest

from approvals.policy import conditions, matching
from tests.unit.approvals.test_policy_matching import CALL
from tools.risk import secrets_of

TWO = {"argv": ["npm"], "secrets": {"NPM_TOKEN": "npm-token", "DEPLOY": "deploy-eu"}}


@pytest.mark.parametrize(
    ("tool", "arguments", "names"),
    [
        ("shell.exec", TWO, ("deploy-eu", "npm-token")),
        ("shell.script", {"script": "ls"}, ()),
        ("http.fetch", {"url": "https://x.example", "secret": "api"}, ("api",)),
        ("files.read", {"path": "x", "secret": "no secret's name"}, ()),
        ("shell.exec", {"argv": ["x"], "secrets": ["npm-token"]}, None),
        ("shell.exec", {"argv": ["x"], "secrets": {"A": 1}}, None),
    ],
)
def test_the_handles_of_a_call_are_known(tool: str, arguments: dict[str, Any], names: tuple[str, ...] | None) -> None:
    assert secrets_of(tool, arguments) == names


@pytest.mark.parametrize(
    ("given", "arguments", "allow", "ask"),
    [
        (["*"], TWO, True, True),
        (["npm-*", "deploy-*"], TWO, True, True),
        (["npm-*"], TWO, False, True),
        (["other"], TWO, False, False),
        (["*"], {"argv": ["ls"]}, False, False),
        (["*"], {"argv": ["ls"], "secrets": "?"}, False, True),
    ],
)
def test_an_allow_rule_needs_every_secret_to_fit_and_the_others_one(
    given: list[str], arguments: dict[str, Any], allow: bool, ask: bool
) -> None:
    made = matching.compiled({"secrets": given})
    call = replace(CALL, tool="shell.exec", arguments=arguments)
    assert made.fits(call, strict=True) is allow
    assert made.fits(call, strict=False) is ask
    assert made.reads == {"secrets"}


def test_conditions_name_them() -> None:
    assert replace(CALL, tool="shell.exec", arguments=TWO).variables()["call"]["secrets"] == ["deploy-eu", "npm-token"]
    assert conditions.reads("'deploy-eu' in call.secrets") == {"secrets"}


@pytest.mark.parametrize("given", [[], "x", [1], [""]])
def test_what_is_no_list_of_patterns_is_refused(given: Any) -> None:
    assert matching.problems({"secrets": given})
