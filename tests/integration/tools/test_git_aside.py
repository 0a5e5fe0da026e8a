"""git.cherry_pick and git.revert: commits made beside the workspace, all of them or none."""

from pathlib import Path

import pytest

from tests.integration.tools.git_support import Door, Remote, make_remote, plain_git
from tools.errors import InvalidArguments, PermitMismatch, ToolRefused

pytestmark = pytest.mark.django_db


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


def inside(door: Door, *arguments: str) -> str:
    return plain_git(
        door.workspace.tree.parent, "-c", "safe.directory=*", f"--git-dir={door.workspace.git_dir}", *arguments
    )


def leftovers(door: Door) -> list[Path]:
    return [*door.workspace.scratch.glob("aside-*"), *door.workspace.scratch.glob("quarantine-*")]


def test_commits_of_another_branch_come_over_with_their_authors(door: Door, remote: Remote):
    first = remote.commit({"a.txt": "a\n"}, "Add a\n\nBecause.", "topic")
    second = remote.commit({"b.txt": "b\n"}, "Add b", "topic")
    door.ok("git.fetch")
    head = door.commit({"src/app.py": "print('two')\n"}, "Say two")
    door.write("README.md", "being edited\n")
    refs = ["origin/topic~1", "origin/topic"]
    text, state = door.preview("git.cherry_pick", refs=refs)
    assert state == {"head": head, "branch": "main", "commits": [first, second]}
    assert "2 commits, 2 files changed, 2 lines added, 0 removed" in text and "+b" in text
    assert leftovers(door) == [] and inside(door, "rev-parse", "HEAD") == head
    result = door.ok("git.cherry_pick", state, refs=refs)
    assert (read(door, "a.txt"), read(door, "b.txt"), read(door, "README.md")) == ("a\n", "b\n", "being edited\n")
    assert leftovers(door) == []
    body = inside(door, "log", "-1", "--format=%an <%ae> by %cn%n%B", "HEAD~1")
    assert body.startswith("Ada <ada@example.org> by Countersign agent\nAdd a\n\nBecause.")
    assert f"(cherry picked from commit {first})" in body and f"Countersign-Step: {door.step_id}" in body
    found = door.probe("git.cherry_pick", state, refs=refs)
    assert found is not None and found.data["sha"] == result.data["sha"]
    undo = result.data["undo"]
    assert undo == {"tool": "git.reset", "arguments": {"ref": head, "mode": "keep"}}
    door.ok(undo["tool"], **undo["arguments"])
    assert inside(door, "rev-parse", "HEAD") == head and not (door.workspace.tree / "a.txt").exists()
    assert read(door, "README.md") == "being edited\n"


def test_a_conflict_changes_nothing_and_is_seen_before(door: Door, remote: Remote):
    fine = remote.commit({"c.txt": "c\n"}, "Fine", "topic")
    bad = remote.commit({"src/app.py": "print('three')\n"}, "Say three", "topic")
    door.ok("git.fetch")
    head = door.commit({"src/app.py": "print('two')\n"}, "Say two")
    assert "This would fail: 1 file in conflict" in door.preview("git.cherry_pick", refs=[fine, bad])[0]
    result = door.run("git.cherry_pick", refs=[fine, bad])
    assert (result.data["code"], result.data["conflicts"], result.data["stopped_at"]) == (
        "conflicts",
        ["src/app.py"],
        bad,
    )
    assert inside(door, "rev-parse", "HEAD") == head
    assert door.ok("git.status").data["clean"] and not (door.workspace.tree / "c.txt").exists()
    assert door.probe("git.cherry_pick", refs=[fine, bad]) is None


def test_local_changes_in_the_way_are_left_alone(door: Door, remote: Remote):
    remote.commit({"README.md": "theirs\n"}, "Theirs", "topic")
    door.ok("git.fetch")
    door.write("README.md", "mine\n")
    result = door.run("git.cherry_pick", refs=["origin/topic"])
    assert (result.ok, result.data["code"]) == (False, "local_changes")
    assert read(door, "README.md") == "mine\n"


def test_what_was_approved_is_what_is_picked(door: Door, remote: Remote):
    remote.commit({"a.txt": "a\n"}, "Add a", "topic")
    door.ok("git.fetch")
    _, state = door.preview("git.cherry_pick", refs=["origin/topic"])
    remote.commit({"a.txt": "evil\n"}, "Evil", "topic")
    door.ok("git.fetch")
    with pytest.raises(PermitMismatch):
        door.run("git.cherry_pick", state, refs=["origin/topic"])


def test_a_trailer_of_another_step_is_not_taken_over(door: Door):
    door.ok("git.checkout", ref="aside", create=True)
    door.commit({"a.txt": "a\n"}, "Add a")
    other = door.step_id
    door.ok("git.checkout", ref="main")
    door.ok("git.cherry_pick", refs=["aside"])
    body = inside(door, "log", "-1", "--format=%B")
    assert other not in body and body.count("Countersign-Step:") == 1


def test_a_revert_takes_back_a_commit_and_a_merge(door: Door):
    sha = door.commit({"src/app.py": "print('two')\n"}, "Say two")
    text, state = door.preview("git.revert", ref="HEAD")
    assert "1 commit, 1 file changed, 1 line added, 1 removed" in text and "-print('two')" in text
    result = door.ok("git.revert", state, ref="HEAD")
    assert read(door, "src/app.py") == "print('one')\n"
    assert f"This reverts commit {sha}." in inside(door, "log", "-1", "--format=%B")
    assert door.probe("git.revert", state, ref="HEAD") is not None
    door.ok("git.checkout", ref="topic", create=True)
    door.commit({"t.txt": "t\n"}, "Topic")
    door.ok("git.checkout", ref="main")
    door.commit({"m.txt": "m\n"}, "Main")
    door.ok("git.merge", ref="topic")
    assert door.run("git.revert", ref="HEAD").data["code"] == "merge_commit"
    door.ok("git.revert", ref="HEAD", mainline=1, message="Without the topic")
    assert not (door.workspace.tree / "t.txt").exists() and (door.workspace.tree / "m.txt").exists()
    assert door.run("git.revert", ref=str(result.data["sha"])[:12] + "0" * 28).data["code"] == "unknown_ref"


def test_what_is_there_already_is_said(door: Door):
    sha = door.commit({"a.txt": "a\n"}, "Add a")
    assert door.run("git.cherry_pick", refs=[sha]).data["code"] == "empty"
    with pytest.raises(InvalidArguments):
        door.run("git.cherry_pick", refs=[sha, "HEAD"])
    for refs in (["-n"], ["--exec=x"], ["a..b"]):
        with pytest.raises(ToolRefused):
            door.run("git.cherry_pick", refs=refs)


def test_conflicts_of_a_merge_and_a_rebase_are_named_before(door: Door, remote: Remote):
    bad = remote.commit({"src/app.py": "print('three')\n"}, "Say three", "topic")
    door.ok("git.fetch")
    head = door.commit({"src/app.py": "print('two')\n"}, "Say two")
    assert "1 file would be in conflict:\n  src/app.py" in door.preview("git.merge", ref="topic")[0]
    text, state = door.preview("git.rebase", onto=bad)
    assert f"1 file would be in conflict at {head[:10]}:\n  src/app.py" in text and state["sha"] == head
    assert inside(door, "rev-parse", "HEAD") == head and leftovers(door) == []
    assert "in conflict" not in door.preview("git.rebase", onto="origin/main~0")[0]
