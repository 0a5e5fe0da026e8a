"""The risk of a call: programs, branches, the number and its reasons, and opinions that only raise it."""

import pytest

from tools import registry, risk
from tools.risk import Place, assess, assess_each, branch_of, programs_of, raised, reach_of
from tools.spec import Call, Risk, RiskScore


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["ls", "-l"], {"ls"}),
        (["/bin/rm", "x"], {"/bin/rm", "rm"}),
        (["./ls"], {"./ls", "ls"}),
        (["env", "A=1", "rm", "x"], {"env", "rm"}),
        (["env", "--what", "rm", "x"], {"env", "rm", "x"}),
        (["timeout", "5", "sudo", "/sbin/reboot"], {"timeout", "sudo", "/sbin/reboot", "reboot"}),
        (["find", ".", "-exec", "rm", "{}", ";"], {"find", "rm"}),
        (["find", ".", "-name", "x"], {"find"}),
        (["sh", "-c", "ls && rm x"], {"sh", "ls", "rm"}),
        (["xargs", "sh", "-c", "rm x"], {"xargs", "sh", "rm"}),
        (["python3", "run.py"], {"python3"}),
        (["python3", "-c", "import os"], None),
        (["bash", "-c", "$(cat x)"], None),
        (["eval", "rm x"], None),
        (["env", "eval", "rm"], None),
    ],
)
def test_the_programs_of_a_command_are_told_or_said_to_be_untold(argv, expected):
    found = programs_of("shell.exec", {"argv": argv})
    assert (found if found is None else set(found)) == expected


def test_a_script_that_cannot_be_judged_names_no_programs():
    assert programs_of("shell.script", {"script": "ls; cat a | rm b"}) == ("ls", "cat", "rm")
    assert programs_of("shell.script", {"script": "rm $X"}) is None
    assert programs_of("files.read", {"path": "x"}) == ()


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("git.push", {"branch": "mine"}, "mine"),
        ("git.push", {"branch": "mine", "remote_branch": "main"}, "main"),
        ("git.push", {"branch": "mine", "remote_branch": "refs/heads/main"}, "main"),
        ("git.checkout", {"ref": "x", "create": True}, "x"),
        ("git.branch", {}, ""),
        ("files.write", {"path": "x"}, ""),
        ("git.commit", {"message": "x"}, risk.UNTOLD),
        ("git.rebase", {"onto": "main"}, risk.UNTOLD),
        ("git.rebase", {"onto": "main", "branch": "y"}, "y"),
    ],
)
def test_the_branch_is_the_one_that_the_call_is_about(tool, arguments, expected):
    assert branch_of(tool, arguments) == expected


def test_a_push_to_the_default_branch_is_high_risk_whatever_it_is_called():
    push = registry.get("git.push")
    aside = assess(push, {"branch": "mine"}, Place(default_branch="trunk"))
    trunk = assess(push, {"branch": "mine", "remote_branch": "trunk"}, Place(default_branch="trunk"))
    assert (aside.level, trunk.level) == (Risk.MEDIUM, Risk.HIGH)
    assert trunk.score > aside.score
    assert any("trunk" in reason for reason in trunk.reasons)


def test_production_size_and_number_add_to_it_with_their_reasons():
    push, write = registry.get("git.push"), registry.get("files.write")
    assert assess(push, {"branch": "b"}, Place(environment="production")).score > assess(push, {"branch": "b"}).score
    small = assess(write, {"path": "a", "content": "x\n"})
    large = assess(write, {"path": "a", "content": "x\n" * 5000})
    assert large.score > small.score
    assert any("5,001 lines" in reason for reason in large.reasons)
    many = assess_each(write, [{"path": "a", "content": ""}] * 200)
    assert many.score > assess(write, {"path": "a", "content": ""}).score
    assert "200 calls at once" in many.reasons


@pytest.mark.parametrize("tool", ["shell.exec", "git.push", "git.push_tag", "files.read"])
def test_a_level_is_never_below_the_tools_own(tool):
    arguments = {"argv": ["curl", "x"], "branch": "b", "tag": "v", "path": "x"}
    known = registry.get(tool)
    assert list(Risk).index(assess(known, arguments).level) >= list(Risk).index(known.risk(arguments).level)


def test_an_opinion_raises_a_risk_and_never_lowers_it():
    read, push = registry.get("files.read"), registry.get("git.push_tag")
    worried = RiskScore(level=Risk.HIGH, reasons=("it smells",))
    calm = RiskScore(level=Risk.LOW, reasons=("fine",))
    assert assess(read, {"path": "x"}, opinion=worried).level is Risk.HIGH
    assert "it smells" in assess(read, {"path": "x"}, opinion=worried).reasons
    assert assess(push, {"tag": "v"}, opinion=calm) == assess(push, {"tag": "v"})
    medium = RiskScore(level=Risk.MEDIUM, score=45)
    assert raised(medium, calm) is medium
    assert risk.opinion_of({"level": "none"}) is None
    assert risk.opinion_of("high") is None


PUSH = """To https://git.example.org/shop.git
  refs/heads/fix/x: (new branch) -> bf73af0404
  dry run: a new branch [new branch]

2 commits:
  bf73af0404 2026-11-21 Ada: 90 files changed, 9 lines added, 9 removed
  af73af0404 2026-11-21 Ada: Start

3 files changed, 18 lines added, 1 removed:
  a +16 -0

7 files changed, 1 line added, 7 removed
"""


def call(tool, *, many=False, **arguments):
    return Call(tool=tool, schema_version=1, arguments=arguments, workspace_id="w", many=many)


def test_what_a_call_reaches_is_told_by_the_tools_own_words():
    pushing = {"remote_ref": "refs/heads/fix/x", "url": "https://git.example.org/shop.git", "remote_sha": ""}
    assert reach_of(call("git.push", branch="fix/x"), PUSH, pushing) == {
        "commits": 2,
        "files": 3,
        "lines_added": 18,
        "lines_removed": 1,
        "branch": "fix/x",
        "remote": "https://git.example.org/shop.git",
    }
    tag = {"remote_ref": "refs/tags/v1", "url": "/srv/shop.git"}
    assert reach_of(call("git.push_tag", tag="v1"), "Nothing to push", tag) == {
        "ref": "refs/tags/v1",
        "remote": "/srv/shop.git",
    }
    merge = "1 commit, 1 file changed, 2 lines added, 0 removed\nbf73 2026-11-21 Ada: Start"
    assert reach_of(call("git.merge", ref="x"), merge, {"branch": "main"}) == {
        "commits": 1,
        "files": 1,
        "lines_added": 2,
        "lines_removed": 0,
        "branch": "main",
    }
    moving = "x: 12, on top of 34\n4 commits would move, 2 files changed, 3 lines added, 1 removed\n  12 Ada: Start"
    assert reach_of(call("git.rebase", onto="main"), moving, {"branch": "x"})["commits"] == 4
    commit = "Commit on x by Ada <ada@example.org>\n1 file changed, 1 line added, 0 removed\n\n5 files changed, 1 line added, 0 removed"
    assert reach_of(call("git.commit", message="m"), commit, {"branch": "x"})["files"] == 1
    diff = "--- a/x\n+++ b/x\n@@ -1 +1,2 @@\n-old\n+new\n+more\n"
    assert reach_of(call("files.write", path="x"), diff, {}) == {"files": 1, "lines_added": 2, "lines_removed": 1}


def test_what_a_commands_files_say_is_not_its_reach():
    assert reach_of(call("shell.exec", argv=["./x"]), "== x ==\n9 files changed, 9 lines added, 9 removed", {}) == {}
    assert reach_of(call("shell.exec", many=True, calls=[{}, {}, {}]), PUSH, {}) == {"calls": 3}
