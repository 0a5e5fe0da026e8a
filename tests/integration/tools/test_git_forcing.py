"""git.force_push, git.restore_branch and git.delete_branch at origin: with a lease, and the way back."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.tools.git_support import Door, Remote, make_remote, plain_git
from tools.errors import PermitMismatch, ToolRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return make_remote(tmp_path)


@pytest.fixture
def door(remote: Remote) -> Door:
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    return door


def undo(door: Door, data: Any) -> dict[str, Any]:
    return dict(door.ok(data["undo"]["tool"], **data["undo"]["arguments"]).data)


def test_a_push_can_be_taken_back(door: Door, remote: Remote):
    door.ok("git.checkout", ref="fix", create=True)
    first = door.commit({"a.txt": "a\n"}, "First try")
    new = door.ok("git.push", branch="fix")
    assert new.data["undo"] == {
        "tool": "git.restore_branch",
        "arguments": {"branch": "fix", "sha": "", "expected": first},
    }
    second = door.commit({"a.txt": "b\n"}, "Second try")
    moved = door.ok("git.push", branch="fix")
    assert remote.sha("fix") == second
    undo(door, moved.data)
    assert remote.sha("fix") == first
    undo(door, new.data)
    assert remote.sha("fix") == ""


def test_a_forced_push_drops_what_its_preview_names_and_nothing_else(door: Door, remote: Remote):
    old = remote.commit({"a.txt": "a\n"}, "Theirs", "fix")
    door.ok("git.fetch")
    door.ok("git.checkout", ref="fix", create=True, start="origin/main")
    mine = door.commit({"b.txt": "b\n"}, "Mine")
    assert door.run("git.push", branch="fix").data["code"] == "not_fast_forward"
    text, state = door.preview("git.force_push", branch="fix")
    assert "1 commit of origin would be dropped:" in text and "Ada: Theirs" in text and "+b" in text
    assert state["remote_sha"] == old and remote.sha("fix") == old
    assert door.probe("git.force_push", state, branch="fix") is None
    wrong = door.run("git.force_push", branch="fix", expected=mine[:-1] + ("0" if mine[-1] != "0" else "1"))
    assert wrong.data["code"] == "lease_broken" and remote.sha("fix") == old
    result = door.ok("git.force_push", state, branch="fix")
    assert remote.sha("fix") == mine and door.probe("git.force_push", state, branch="fix") is not None
    back = undo(door, result.data)
    assert remote.sha("fix") == old
    undo(door, back)  # and forward again
    assert remote.sha("fix") == mine


def test_who_pushed_meanwhile_is_not_overwritten(door: Door, remote: Remote):
    remote.commit({"a.txt": "a\n"}, "Theirs", "fix")
    door.ok("git.fetch")
    door.ok("git.checkout", ref="fix", create=True, start="origin/main")
    door.commit({"b.txt": "b\n"}, "Mine")
    _, state = door.preview("git.force_push", branch="fix")
    newer = remote.commit({"a.txt": "c\n"}, "Theirs, later", "fix")
    with pytest.raises(PermitMismatch):
        door.run("git.force_push", state, branch="fix")
    assert remote.sha("fix") == newer


def test_the_default_branch_is_neither_replaced_nor_deleted(door: Door, remote: Remote):
    before = remote.sha("main")
    door.commit({"b.txt": "b\n"}, "Mine")
    for tool, arguments in (
        ("git.restore_branch", {"branch": "main", "sha": "", "expected": before}),
        ("git.force_push", {"branch": "main"}),
        ("git.delete_branch", {"branch": "main", "at": "origin"}),
    ):
        for act in (door.run, door.preview):
            with pytest.raises(ToolRefused, match="default branch"):
                act(tool, **arguments)
    assert remote.sha("main") == before


def test_only_what_stood_there_can_be_restored(door: Door, remote: Remote):
    door.ok("git.checkout", ref="fix", create=True)
    sha = door.commit({"a.txt": "a\n"}, "Mine")
    refused = door.run("git.restore_branch", branch="fix", sha=sha, expected="")
    assert (refused.ok, refused.data["code"]) == (False, "not_kept") and remote.sha("fix") == ""


def test_a_branch_at_origin_is_deleted_and_brought_back(door: Door, remote: Remote):
    sha = remote.commit({"a.txt": "a\n"}, "Theirs", "old")
    door.ok("git.fetch")
    text, state = door.preview("git.delete_branch", branch="old", at="origin")
    assert "1 commit of origin would be dropped:" in text and state["remote_sha"] == sha
    assert door.probe("git.delete_branch", state, branch="old", at="origin") is None
    gone = door.ok("git.delete_branch", state, branch="old", at="origin")
    assert remote.sha("old") == "" and door.probe("git.delete_branch", state, branch="old", at="origin") is not None
    assert "origin/old" not in {one["name"] for one in door.ok("git.branch").data["branches"]}
    assert door.run("git.delete_branch", branch="old", at="origin").data["code"] == "unknown_ref"
    undo(door, gone.data)
    assert plain_git(remote.path, "rev-parse", "refs/heads/old") == sha
    remote.commit({"a.txt": "b\n"}, "Later", "old")
    result = door.run("git.delete_branch", branch="old", at="origin", expected=sha)
    assert result.data["code"] == "lease_broken"


def test_a_remote_that_forbids_it_says_so(door: Door, remote: Remote):
    remote.commit({"a.txt": "a\n"}, "Theirs", "fix")
    plain_git(remote.path, "config", "receive.denyNonFastForwards", "true")
    plain_git(remote.path, "config", "receive.denyDeletes", "true")
    door.ok("git.fetch")
    door.ok("git.checkout", ref="fix", create=True, start="origin/main")
    door.commit({"b.txt": "b\n"}, "Mine")
    assert door.run("git.force_push", branch="fix").data["code"] == "push_refused"
    assert door.run("git.delete_branch", branch="fix", at="origin").data["code"] == "push_refused"
