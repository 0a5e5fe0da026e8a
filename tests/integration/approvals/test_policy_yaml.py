"""Policies as YAML: written, read back, refused with lines, tried; and the packs."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command

from approvals.errors import InvalidPolicyFile, UnknownPolicy
from approvals.models import Policy, PolicyRule, PolicyVersion, RuleApprovers
from approvals.policy import importing, packs, rules, versions, yamlform
from tests.factories import people
from tests.factories.log import events
from tests.integration.approvals.recording import call, decided, played
from tests.integration.approvals.test_policy_lifecycle import publish

pytestmark = pytest.mark.django_db

ODD = [
    "on",
    "1e5",
    "08",
    "~",
    "null",
    "yes",
    "#x",
    "a: b",
    "- x",
    "'",
    '"',
    "é\u2028",
    "tab\tx",
    "two\nlines",
    "x\n",
    " y",
]


def full(reason: str = "Because.") -> PolicyVersion:
    sre, owners = (Group.objects.get_or_create(name=name)[0] for name in ("sre", "the owners: all"))
    version = draft(
        {"order": 10, "name": "reading", "tools": ["files.*", "git.log"]},
        {
            "order": 25,
            "name": "pushes",
            "tools": ["git.push"],
            "effect": "ask",
            "condition": 'call.args.branch != "main"\n  && job.kind == "goal"',
            "match": {"owners": ["ada"], "time": {"zone": "UTC", "from": "08:00", "to": "17:00"}, "risk_at_least": 40},
            "constraints": {"limits": {"timeout_s": 60}, "network": ["git.example.org"]},
            "approvers": sre,
            "escalate_to": owners,
            "quorum": 2,
            "second_factor": True,
            "grant_max_s": 600,
            "expires_s": 3600,
            "execution_expires_s": 600,
            "reason": reason,
        },
    )  # fmt: skip
    RuleApprovers.objects.create(rule=version.rules.get(name="pushes"), group=owners, count=2)
    return version


def draft(*given: dict[str, Any], name: str = "house") -> PolicyVersion:
    policy, _ = Policy.objects.get_or_create(name=name)
    version = versions.new_draft(policy, by=None)
    for rule in given:
        PolicyRule.objects.create(version=version, **{"effect": "allow", **rule})
    return version


def test_what_is_written_and_read_again_is_the_same():
    version = full()
    text = yamlform.dump(version)
    again = importing.import_yaml(text, by=None)
    assert rules.sha256(again) == rules.sha256(version)
    assert yamlform.dump(again) == text
    assert again.policy == version.policy and again.number == 2


@pytest.mark.parametrize("odd", ODD)
def test_odd_texts_come_back_as_they_were(odd):
    version = full(odd)
    again = importing.import_yaml(yamlform.dump(version), by=None)
    assert again.rules.get(name="pushes").reason == odd


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("rules: [{name: a, tools: [x], effect: allows}]", "line 2, column 39: The effect"),
        ("rules: [{name: a, tools: [X Y], effect: allow}]", "line 2, column 26: 'X Y' is no pattern"),
        ("rules: [{name: a b, tools: [x], effect: allow}]", "line 2, column 16: A rule has a name"),
        ("rules: [{name: a, tool: [x], effect: allow}]", "line 2, column 19: There is no 'tool'"),
        ("rules: [{name: a, tools: [x], effect: ask}]", "names its approvers"),
        ("rules: [{name: a, tools: [x], effect: ask, approvers: nobody}]", "line 2, column 55: There is no group"),
        ("rules: [{name: a, tools: [x], effect: allow, when: call.arg}]", "line 2, column 52: Condition, line 1"),
        ("rules: [{name: a, tools: [x], effect: allow, match: {owner: [x]}}]", "line 2, column 53: match has no"),
        ("rules: [{name: a, tools: [x], effect: allow, quorum: true}]", "line 2, column 54: Must be a whole number"),
        ("rules: [{name: a, tools: [x], effect: allow}, {name: a, tools: [x], effect: deny}]", "has this name already"),
        ("rules: [{name: a, tools: [x], effect: allow, expires_s: 0}]", "Must be from 1"),
        ("rulez: []", "line 2, column 1: There is no 'rulez'"),
        ("rules: {}", "Must be a list"),
        ("rules: &x [*x]", "Anchors"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(wrong, told):
    with pytest.raises(InvalidPolicyFile) as refused:
        importing.import_yaml(f"policy: house\n{wrong}\n", by=None)
    assert any(told in message for _, message in refused.value.problems), refused.value.problems
    assert not PolicyVersion.objects.exists()


def test_all_problems_are_told_at_once():
    with pytest.raises(InvalidPolicyFile) as refused:
        yamlform.load("policy: a b\nrules:\n  - {name: x, effect: no}\n  - 3\n")
    assert len(refused.value.problems) >= 4


def test_packs_hold_what_they_promise():
    out = io.StringIO()
    call_command("policy", "test", "--packs", stdout=out)
    assert "0 failed" in out.getvalue()
    assert [pack.name for pack in packs.every()] == [
        "careful-developer", "injection-defence", "locked-down-production", "read-only", "release-manager",
    ]  # fmt: skip
    assert all(len(yamlform.load(pack.source).expectations) >= 7 for pack in packs.every())


def test_a_pack_becomes_a_draft_and_missing_groups_are_named():
    ada = people.user("ada")
    with pytest.raises(InvalidPolicyFile, match="release-managers"):
        importing.import_pack("release-manager", by=ada)
    version = importing.import_pack("release-manager", by=ada, create_groups=True)
    assert version.status == "draft"
    assert any("nobody" in message for _, message in versions.problems(version))
    people.user("grace", groups=("release-managers",))
    people.user("alan", groups=("sre",))
    assert versions.problems(version) == []
    assert events(Group.objects.get(name="sre").pk, prefix="admin.changed")
    with pytest.raises(UnknownPolicy, match="careful-developer"):
        importing.import_pack("nothing", by=ada)


# the command


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("policy", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    people.user("root", is_superuser=True)
    path = tmp_path / "house.yaml"
    path.write_text(
        "policy: house\nrules:\n  - {name: files, tools: [files.*], effect: allow}\nexpectations:\n"
        "  - call: {tool: files.read, arguments: {path: a}}\n    expect: {effect: allow, rule: files}\n"
    )
    return path


def test_from_a_file_to_force_and_back_by_commands(file, tmp_path):
    assert run("list") == "There is no policy: every call is denied.\n"
    assert "house@1 is a draft with 1 rules." in run("import", str(file))
    with played(decided(1, "deny", call("files.read", arguments={"path": "a"}))):
        with pytest.raises(CommandError, match="backtest") as refused:
            run("publish", "house")
        assert refused.value.returncode == 3
        with pytest.raises(SystemExit) as flipped:
            run("backtest", "house", "--fail-on-flip")
        assert flipped.value.code == 1
        with pytest.raises(CommandError, match="acknowledge"):
            run("publish", "house")
        run("acknowledge", "house", "--note", "meant so")
        run("propose", "house")
        assert run("publish", "house") == "house@1 is in force.\n"
    assert json.loads(run("list", "--json")) == [{"policy": "house", "published": "@1", "drafts": [], "versions": 1}]
    file.write_text(file.read_text().replace("effect: allow}", "effect: deny}"))
    run("import", str(file))
    assert "~ files: effect was allow, now deny" in run("diff", "house@2")
    with played():
        run("publish", "house@2")
        assert run("rollback", "house@1", "--reason", "oops") == "house@3 is in force.\n"
    run("export", "house", "--output", str(tmp_path / "out.yaml"))
    assert "Back to version 1. oops" in (tmp_path / "out.yaml").read_text()


def test_a_test_that_fails_exits_with_1_and_says_what_came(file, capsys):
    assert "ok   " in run("test", str(file))
    file.write_text(file.read_text().replace("rule: files", "rule: others"))
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("policy", "test", str(file), stdout=out)
    assert ended.value.code == 1
    assert f"FAIL {file}:5 files.read is allow: rule is files, expected others" in out.getvalue()
    publish(draft({"name": "one", "order": 1, "tools": ["*"]}))
    with pytest.raises(SystemExit):  # the same calls, by what this server has
        run("test", str(file), "--version", "house@1")
    file.write_text("policy: house\nexpectations:\n  - {call: {tool: git.push, argument: {}}, expect: deny}\n")
    with pytest.raises(CommandError, match=r"expectations\[0\].call.argument: line 3, column 39"):
        run("test", str(file), "--version", "house@1")


def test_simulate_says_of_each_rule_why(file):
    run("import", str(file))
    said = run("simulate", "house", "--call", '{"tool": "git.push", "arguments": {"branch": "main"}}')
    assert said.startswith("DENY by no policy")
    assert "git.push is none of its tools: files.*." in said
    with pytest.raises(CommandError, match="no JSON"):
        run("simulate", "house", "--call", "{")
    with pytest.raises(CommandError, match="arguments"):
        run("simulate", "house", "--call", '{"tool": "git.push", "arguments": {"branches": "main"}}')
    with played(decided(7, "allow", call("files.read"))):
        assert "ALLOW by house@1 files" in run("simulate", "house", "--step", "000007")


def test_a_person_without_the_permission_is_refused(file):
    people.user("ada")
    with pytest.raises(CommandError, match="lacks the permission"):
        run("import", str(file), "--as", "ada")
    publish(draft({"name": "one", "order": 1, "tools": ["*"]}))
    with pytest.raises(CommandError, match="lacks the permission"):
        run("rollback", "house@1", "--as", "ada")
