"""git.rebase: what it moves, what it takes back, and what is left when its process dies."""

import os
from pathlib import Path

import pytest

from tests.integration.tools.git_kills import Attempt, Gate
from tests.integration.tools.git_support import Door, Remote, make_remote, merged_elsewhere, plain_git
from tools.builtin.git.unfinished import rebasing
from tools.errors import PermitMismatch, ToolFailed, ToolRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return make_remote(tmp_path)


@pytest.fixture
def door(remote: Remote) -> Door:
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    return door


def git(door: Door, *words: str) -> str:
    return plain_git(door.workspace.root, "-c", "safe.directory=*", f"--git-dir={door.workspace.git_dir}", *words)


def apart(door: Door, remote: Remote) -> tuple[str, str]:
    """A topic of two commits, and a commit of somebody else's on origin's main; (the topic's tip, main's tip)."""
    door.ok("git.checkout", ref="topic", create=True)
    door.commit({"a.txt": "a\n"}, "Add a")
    tip = door.commit({"b.txt": "b\n"}, "Add b")
    moved = merged_elsewhere(remote, {"c.txt": "c\n"})
    door.ok("git.fetch")
    return tip, moved


def in_conflict(door: Door, remote: Remote) -> str:
    door.ok("git.checkout", ref="topic", create=True)
    door.commit({"a.txt": "a\n"}, "Add a")
    tip = door.commit({"src/app.py": "print('topic')\n", "README.md": "topic\n"}, "Ours")
    merged_elsewhere(remote, {"src/app.py": "print('main')\n", "README.md": "main\n"})
    door.ok("git.fetch")
    return tip


def test_the_branch_s_commits_move_as_the_preview_says(door: Door, remote: Remote):
    tip, moved = apart(door, remote)
    text, state = door.preview("git.rebase", onto="origin/main")
    assert state == {"branch": "topic", "sha": tip, "onto": moved}
    assert "2 commits would move, 2 files changed" in text and "Add a" in text and "Add b" in text
    assert "Somebody else's" not in text
    assert door.probe("git.rebase", state, onto="origin/main") is None
    result = door.ok("git.rebase", state, onto="origin/main")
    assert (result.data["how"], result.data["commits"], result.data["before"]) == ("rebased", 2, tip)
    assert git(door, "log", "--format=%s", "topic").splitlines() == ["Add b", "Add a", "Somebody else's", "First"]
    assert result.data["sha"] == git(door, "rev-parse", "topic") != tip
    status = door.ok("git.status").data
    assert (status["branch"], status["clean"]) == ("topic", True)
    assert (door.workspace.tree / "c.txt").exists()
    found = door.probe("git.rebase", state, onto="origin/main")
    assert found is not None and found.data == result.data
    assert door.ok("git.rebase", onto="origin/main").data["how"] == "already there"
    assert "nothing would move" in door.preview("git.rebase", onto="origin/main")[0]


def test_authors_stay_and_a_change_that_is_there_already_is_left_out(door: Door, remote: Remote):
    remote.commit({"x.txt": "x\n"}, "Add x", "other")
    remote.commit({"a.txt": "a\n"}, "Add a", "other")
    merged_elsewhere(remote, {"c.txt": "c\n"})
    merged_elsewhere(remote, {"a.txt": "a\n"})
    door.ok("git.fetch")
    door.ok("git.checkout", ref="other")
    door.commit({"b.txt": "b\n"}, "Add b")
    text, state = door.preview("git.rebase", onto="origin/main", branch="other")
    assert "2 commits would move" in text and "Add a" not in text
    door.ok("git.checkout", ref="main")
    door.ok("git.rebase", state, onto="origin/main", branch="other")
    assert door.ok("git.status").data["branch"] == "other"
    log = git(door, "log", "-3", "--format=%an %s", "other").splitlines()
    assert log == ["Countersign agent Add b", "Ada Add x", "Ada Somebody else's"]
    assert door.probe("git.rebase", state, onto="origin/main", branch="other") is not None


def test_a_conflict_is_named_and_taken_back(door: Door, remote: Remote):
    tip = in_conflict(door, remote)
    door.ok("git.checkout", ref="main")
    state = door.preview("git.rebase", onto="origin/main", branch="topic")[1]
    door.write("untracked.txt", "mine\n")
    result = door.run("git.rebase", state, onto="origin/main", branch="topic")
    assert not result.ok
    assert (result.data["code"], result.data["error_code"]) == ("conflict", "conflict")
    assert sorted(result.data["conflicts"]) == ["README.md", "src/app.py"]
    assert result.data["stopped_at"] == tip
    status = door.ok("git.status").data
    assert (status["branch"], [entry["path"] for entry in status["entries"]]) == ("main", ["untracked.txt"])
    assert git(door, "rev-parse", "topic") == tip
    assert not rebasing(door.workspace)
    assert door.probe("git.rebase", state, onto="origin/main", branch="topic") is None


def test_what_would_be_lost_or_is_not_there_is_refused(door: Door, remote: Remote):
    apart(door, remote)
    for arguments in ({"onto": "nowhere"}, {"onto": "origin/main", "branch": "nowhere"}):
        assert door.run("git.rebase", **arguments).data["code"] == "unknown_ref"
        assert "would fail" in door.preview("git.rebase", **arguments)[0]
    said = door.run("git.rebase", onto="origin/nowhere").text
    assert "'origin/nowhere'" in said  # as it was asked for
    for arguments in ({"onto": "--exec=x"}, {"onto": "main", "branch": "-x"}):
        with pytest.raises(ToolRefused):
            door.run("git.rebase", **arguments)
    door.write("a.txt", "precious\n")
    assert door.run("git.rebase", onto="origin/main").data["code"] == "rebase_refused"
    assert (door.workspace.tree / "a.txt").read_text() == "precious\n"
    door.write("a.txt", "a\n")
    door.write("c.txt", "precious\n")
    assert door.run("git.rebase", onto="origin/main").data["code"] == "rebase_refused"
    assert (door.workspace.tree / "c.txt").read_text() == "precious\n"
    assert door.ok("git.status").data["branch"] == "topic" and not rebasing(door.workspace)


def test_an_approved_rebase_does_not_move_another_branch_or_onto_another_commit(door: Door, remote: Remote):
    apart(door, remote)
    state = door.preview("git.rebase", onto="origin/main")[1]
    merged_elsewhere(remote, {"d.txt": "d\n"})
    door.ok("git.fetch")
    with pytest.raises(PermitMismatch):
        door.run("git.rebase", state, onto="origin/main")


def test_a_detached_head_is_moved_too(door: Door, remote: Remote):
    tip, moved = apart(door, remote)
    door.ok("git.checkout", ref=tip)
    state = door.preview("git.rebase", onto="origin/main")[1]
    result = door.ok("git.rebase", state, onto="origin/main")
    assert result.data["branch"] == "" and git(door, "rev-parse", "topic") == tip
    assert git(door, "rev-parse", f"{result.data['sha']}~2") == moved
    assert door.probe("git.rebase", state, onto="origin/main") is not None


def test_nobody_can_tell_where_the_branch_got_other_changes(door: Door, remote: Remote):
    _, moved = apart(door, remote)
    state = door.preview("git.rebase", onto="origin/main")[1]
    git(door, "update-ref", "refs/heads/topic", moved)
    with pytest.raises(ToolFailed, match="not with the changes"):
        door.probe("git.rebase", state, onto="origin/main")


@pytest.mark.parametrize("passed", [0, 3])
def test_a_rebase_killed_on_its_way_leaves_nothing_half_done(door: Door, remote: Remote, passed: int):
    """git opens the gate's file once before it begins, twice to go to the new base, and twice for each commit."""
    apart(door, remote)
    door.commit({"d.txt": "d\n"})
    tip = door.commit({"e.txt": "e\n"})
    state = door.preview("git.rebase", onto="origin/main", branch="topic")[1]
    door.write("untracked.txt", "mine\n")
    gate = Gate(door.workspace.git_dir / "info" / "exclude", door.workspace.tree.stat())
    attempt = Attempt(door, "git.rebase", onto="origin/main", branch="topic")
    gate.let_through_until(lambda: rebasing(door.workspace), "the rebase begins")
    for _ in range(passed):
        gate.let_through()
    attempt.kill()
    gate.remove()
    assert rebasing(door.workspace)
    assert door.probe("git.rebase", state, onto="origin/main", branch="topic") is None
    assert door.preview("git.rebase", onto="origin/main")[1] == state  # as if it had not begun
    status = door.ok("git.status").data  # even looking takes it back
    assert (status["branch"], status["sha"]) == ("topic", tip)
    assert [entry["path"] for entry in status["entries"]] == ["untracked.txt"]
    assert not rebasing(door.workspace)
    assert {path.name for path in door.workspace.tree.glob("*.txt")} == {
        f"{name}.txt" for name in ("a", "b", "d", "e", "untracked")
    }
    again = door.ok("git.rebase", state, onto="origin/main", branch="topic")
    assert git(door, "rev-parse", f"{again.data['sha']}~4") == state["onto"]
    assert door.probe("git.rebase", state, onto="origin/main", branch="topic") is not None


def test_notes_that_say_nothing_are_cleared_away(door: Door):
    """As of a rebase that died before it had moved anything, or while it cleared them away itself."""
    head = git(door, "rev-parse", "main")
    owner = door.workspace.tree.stat()
    for notes in ({}, {"orig-head": head, "head-name": "refs/heads/main"}, {"head-name": "refs/heads/main"}):
        folder = door.workspace.git_dir / "rebase-merge"
        folder.mkdir()
        for name, text in notes.items():
            (folder / name).write_text(text + "\n")
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.st_uid, owner.st_gid)
        status = door.ok("git.status").data
        assert (status["branch"], status["sha"], status["clean"]) == ("main", head, True)
        assert not rebasing(door.workspace)
