"""Rules about the hosts that a call asks to reach."""

from dataclasses import replace
from typing import Any

import pytest

from approvals.defaults import RULES
from approvals.policy import conditions, matching
from approvals.policy.match import matches
from tests.unit.approvals.test_policy_matching import CALL
from tools import risk
from tools.spec import Call


def asking(*hosts: str, tool: str = "shell.exec", **arguments: Any) -> Any:
    given = {"argv": ["curl"], **({"network": list(hosts)} if hosts else {})}
    return replace(CALL, tool=tool, arguments=arguments or given)


def fits(patterns: list[str], given: Any, *, strict: bool) -> bool:
    assert matching.problems({"network": patterns}) == []
    return matching.compiled({"network": patterns}).fits(given, strict=strict)


@pytest.mark.parametrize(
    ("patterns", "hosts", "allows", "denies"),
    [
        (["pypi.org"], ["pypi.org"], True, True),
        (["pypi.org"], ["PyPI.org."], True, True),
        (["pypi.org"], ["pypi.org", "evil.example"], False, True),
        (["*.example.org"], ["a.example.org", "*.b.example.org"], True, True),
        (["a.example.org"], ["*.example.org"], False, True),
        (["example.org"], ["*.example.org"], False, False),
        (["pypi.org:443"], ["pypi.org"], False, True),
        (["pypi.org"], ["pypi.org:8443"], False, False),
        (["*"], ["evil.example"], True, True),
        (["*"], [], False, False),
        (["pypi.org"], [], False, False),
        (["pypi.org"], ["http://broken"], False, True),  # it cannot be told
    ],
)
def test_an_allow_needs_every_host_and_a_deny_one(patterns, hosts, allows, denies):
    given = asking(*hosts)
    assert fits(patterns, given, strict=True) is allows
    assert fits(patterns, given, strict=False) is denies


def test_the_host_of_an_address_counts():
    given = asking(tool="http.fetch", url="https://docs.example.org:8443/x", redirect_hosts=["cdn.example.org"])
    assert given.network == ("cdn.example.org", "docs.example.org:8443")
    assert fits(["*.example.org", "*.example.org:8443"], given, strict=True)
    assert not fits(["*.example.org"], given, strict=True)
    assert asking(tool="http.fetch", url="file:///etc/passwd").network is None
    assert asking(tool="git.push", remote="origin").network == ()


def test_conditions_see_the_hosts():
    source = "size(call.network) == 0 || call.network.all(host, host == 'pypi.org')"
    conditions.check(source)
    assert conditions.reads(source) == frozenset({"network"})
    for hosts, holds in (((), True), (("pypi.org",), True), (("pypi.org", "evil.example"), False)):
        assert conditions.holds(source, conditions.scope(asking(*hosts).variables())) is holds
    assert "network" not in asking("http://broken").variables()["call"]


@pytest.mark.parametrize("wrong", ["pypi.org", [], [""], ["http://x"], ["*.org"], ["a b"], [1]])
def test_wrong_hosts_are_refused(wrong):
    assert matching.problems({"network": wrong})


@pytest.mark.parametrize("tool", ["shell.exec", "shell.script"])
def test_a_new_server_asks_people_about_a_command_with_a_network(tool):
    """Whatever its risk is said to be."""

    def decided(given: Any) -> tuple[str, str]:
        scope = conditions.scope(replace(given, risk="low").variables())
        return next(
            (name, effect)
            for name, tools, condition, effect, _ in RULES
            if matches(tools, tool) and conditions.holds(condition, scope)
        )

    assert decided(asking("pypi.org", tool=tool)) == ("shell-network", "ask")
    assert decided(asking(tool=tool)) == ("shell", "allow")


def test_a_request_says_which_hosts_it_is_about():
    call = Call(
        tool="shell.exec",
        schema_version=1,
        arguments={"argv": ["x"], "network": ["pypi.org", "a.example"]},
        workspace_id="",
    )
    assert risk.reach_of(call, "", {}) == {"hosts": "a.example, pypi.org"}
    assert risk.reach_of(replace(call, arguments={"argv": ["x"]}), "", {}) == {}
