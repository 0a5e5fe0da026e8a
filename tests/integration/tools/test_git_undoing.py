"""git.reset, git.stash, git.clean, git.apply and local git.delete_branch: what they take away, and how it comes back."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.tools.git_support import Door, Remote, make_remote
from tools.errors import PermitMismatch, ToolFailed, ToolRefused

pytestmark = pytest.mark.django_db

PATCH = "diff --git a/src/app.py b/src/app.py\n--- a/src/app.py\n+++ b/src/app.py\n@@ -1 +1 @@\n-print('one')\n+print('two')\n"


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return make_remote(tmp_path)


@pytest.fixture
def door(remote: Remote) -> Door:
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    return door


def read(door: Door, name: str) -> str:
    return (door.workspace.tree / name).read_text()


def undo(door: Door, data: Any) -> None:
    door.ok(data["undo"]["tool"], **data["undo"]["arguments"])


def head(door: Door) -> str:
    return str(door.ok("git.status").data["sha"])


def test_a_reset_moves_the_branch_and_can_be_taken_back(door: Door):
    first = head(door)
    second = door.commit({"src/app.py": "print('two')\n"}, "Say two")
    text, state = door.preview("git.reset", ref="HEAD~1", mode="soft")
    assert "1 commit would leave the branch:" in text and "Say two" in text
    assert state == {"head": second, "branch": "main", "sha": first}
    assert door.probe("git.reset", state, ref="HEAD~1", mode="soft") is None
    result = door.ok("git.reset", state, ref="HEAD~1", mode="soft")
    assert head(door) == first and read(door, "src/app.py") == "print('two')\n"
    found = door.probe("git.reset", state, ref="HEAD~1", mode="soft")
    assert found is not None and found.data["sha"] == first
    with pytest.raises(PermitMismatch):
        door.run("git.reset", state, ref="HEAD~1", mode="soft")
    undo(door, result.data)
    assert head(door) == second and door.ok("git.status").data["clean"]
    door.ok("git.reset", ref="HEAD~1")
    assert door.ok("git.status").data["entries"][0]["worktree"] == "M"
    kept = door.run("git.reset", ref=second, mode="keep")
    assert kept.data["code"] == "reset_refused"  # it would lose the change


def test_what_a_hard_reset_takes_is_kept(door: Door):
    door.write("src/app.py", "print('mine')\n")
    door.write("new.txt", "new\n")
    text, state = door.preview("git.reset", mode="hard")
    assert "taken away" in text and "src/app.py" in text and "1 file changed, 1 line added, 1 removed" in text
    assert door.probe("git.reset", state, mode="hard") is None
    result = door.ok("git.reset", state, mode="hard")
    assert (read(door, "src/app.py"), read(door, "new.txt")) == ("print('one')\n", "new\n")
    assert door.probe("git.reset", state, mode="hard") is not None
    door.ok("git.stash", action="apply", stash=result.data["kept"])
    assert read(door, "src/app.py") == "print('mine')\n"
    door.ok("git.add", paths=["new.txt"])
    door.ok("git.reset", paths=["new.txt"])
    assert {entry["index"] for entry in door.ok("git.status").data["entries"]} == {".", "?"}


def test_changes_are_set_aside_and_taken_up(door: Door):
    door.write("src/app.py", "print('mine')\n")
    door.write("new.txt", "new\n")
    text, state = door.preview("git.stash", action="save", untracked=True, message="half")
    assert "+print('mine')" in text and "new.txt" in text
    assert door.probe("git.stash", state, action="save", untracked=True, message="half") is None
    saved = door.ok("git.stash", state, action="save", untracked=True, message="half")
    assert door.probe("git.stash", state, action="save", untracked=True, message="half") is not None
    assert door.ok("git.status").data["clean"]
    assert door.run("git.stash", action="save").data["code"] == "nothing_to_stash"
    listed = door.ok("git.stash", action="list").data["stashes"]
    assert [entry["sha"] for entry in listed] == [saved.data["sha"]] and "half" in listed[0]["subject"]
    shown, pops = door.preview("git.stash", action="pop")
    assert "+print('mine')" in shown and pops["sha"] == saved.data["sha"]
    undo(door, saved.data)
    assert (read(door, "src/app.py"), read(door, "new.txt")) == ("print('mine')\n", "new\n")
    assert door.probe("git.stash", pops, action="pop") is not None
    assert door.run("git.stash", action="pop").data["code"] == "unknown_stash"


def test_a_stash_in_conflict_stays_and_a_dropped_one_can_be_had(door: Door):
    door.write("src/app.py", "print('mine')\n")
    sha = door.ok("git.stash", action="save").data["sha"]
    door.commit({"src/app.py": "print('theirs')\n"})
    state = door.preview("git.stash", action="pop")[1]
    result = door.run("git.stash", action="pop")
    assert (result.data["code"], result.data["conflicts"]) == ("conflicts", ["src/app.py"])
    with pytest.raises(ToolFailed, match="cannot be told"):
        door.probe("git.stash", state, action="pop")
    door.ok("git.reset", mode="hard")
    door.ok("git.stash", action="drop", stash=sha)
    assert door.ok("git.stash", action="list").data["stashes"] == []
    door.ok("git.reset", ref="HEAD~1", mode="hard")
    door.ok("git.stash", action="apply", stash=sha)
    assert read(door, "src/app.py") == "print('mine')\n"


def test_clean_removes_what_its_preview_names(door: Door):
    door.commit({".gitignore": "*.log\n"})
    for name in ("a.txt", "x.log", "folder/b.txt", "tab\there"):
        door.write(name, "x\n")
    text, state = door.preview("git.clean")
    assert "2 paths would be removed" in text and "a.txt" in text and "folder" not in text
    door.write("late.txt", "late\n")
    with pytest.raises(PermitMismatch):
        door.run("git.clean", state)
    (door.workspace.tree / "late.txt").unlink()
    result = door.ok("git.clean", state)
    assert result.data["removed"] == ["a.txt", "tab\there"]
    assert door.ok("git.clean", folders=True, ignored=True).data["removed"] == ["folder/", "x.log"]
    assert door.ok("git.status").data["clean"] and door.preview("git.clean")[0] == "There is nothing to remove."


def test_a_patch_is_all_or_nothing_and_reversible(door: Door):
    text, state = door.preview("git.apply", patch=PATCH)
    assert "1 file changed, 1 line added, 1 removed" in text
    assert door.probe("git.apply", state, patch=PATCH) is None
    result = door.ok("git.apply", state, patch=PATCH, staged=False)
    assert read(door, "src/app.py") == "print('two')\n"
    assert door.probe("git.apply", state, patch=PATCH) is not None
    undo(door, result.data)
    assert read(door, "src/app.py") == "print('one')\n"
    half = PATCH + "--- a/README.md\n+++ b/README.md\n@@ -1 +1 @@\n-nothing like it\n+x\n"
    refused = door.run("git.apply", patch=half)
    assert refused.data["code"] == "patch_refused" and "README.md" in refused.summary
    assert "This would fail" in door.preview("git.apply", patch=half)[0]
    assert door.ok("git.status").data["clean"]
    door.ok("git.apply", patch=PATCH, staged=True)
    assert door.ok("git.status").data["entries"][0]["index"] == "M"
    twice = "--- /dev/null\n+++ b/n.txt\n@@ -0,0 +1 @@\n+n\n"
    door.ok("git.apply", patch=twice)
    assert door.run("git.apply", patch=twice).data["code"] == "patch_refused"


def test_a_local_branch_is_deleted_and_brought_back(door: Door):
    door.ok("git.checkout", ref="topic", create=True)
    sha = door.commit({"t.txt": "t\n"}, "Topic")
    assert door.run("git.delete_branch", branch="topic").data["code"] == "checked_out"
    door.ok("git.checkout", ref="main")
    assert door.run("git.delete_branch", branch="topic").data["code"] == "unmerged"
    text, state = door.preview("git.delete_branch", branch="topic", unmerged=True)
    assert "1 commit would be nowhere else" in text and state == {"branch": "topic", "sha": sha}
    assert door.probe("git.delete_branch", state, branch="topic", unmerged=True) is None
    gone = door.ok("git.delete_branch", state, branch="topic", unmerged=True)
    assert door.probe("git.delete_branch", state, branch="topic", unmerged=True) is not None
    undo(door, gone.data)
    assert {one["name"]: one["sha"] for one in door.ok("git.branch").data["branches"]}["topic"] == sha
    door.ok("git.branch", create="same")
    door.ok("git.delete_branch", branch="same")
    with pytest.raises(ToolRefused):
        door.run("git.delete_branch", branch="--all")
