"""The way of a change: prepare, look, branch, edit, add, commit, merge, tag, push."""

import shutil
from pathlib import Path

import pytest

from tests.integration.tools.git_support import Door, Remote, git_box, make_remote, merged_elsewhere, plain_git
from tools.builtin.git.broker import Broker
from tools.builtin.git.cli import Git
from tools.builtin.git.pushing import transfer
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


def test_prepare_gives_the_branch_with_a_separate_git_directory(remote: Remote):
    door = Door()
    result = door.ok("workspace.prepare", url=f"file://{remote.path}", branch="main")
    assert result.data["sha"] == remote.sha("main")
    assert (door.workspace.tree / "src/app.py").read_text() == "print('one')\n"
    assert (door.workspace.tree / ".git").is_file()
    assert (door.workspace.git_dir / "HEAD").is_file()
    status = door.ok("git.status")
    assert (status.data["branch"], status.data["clean"], status.data["ahead"]) == ("main", True, 0)


def test_a_change_goes_all_the_way_to_the_remote(door: Door, remote: Remote):
    door.ok("git.checkout", ref="fix", create=True)
    door.write("src/app.py", "print('two')\n")
    door.write("NOTES.md", "notes\n")
    status = door.ok("git.status")
    assert {entry["path"]: entry["worktree"] for entry in status.data["entries"]} == {
        "src/app.py": "M",
        "NOTES.md": "?",
    }
    diff = door.ok("git.diff")
    assert diff.data["files"] == [{"path": "src/app.py", "added": 1, "removed": 1}]
    assert "+print('two')" in diff.text
    added = door.ok("git.add", paths=["."])
    assert {entry["path"]: entry["change"] for entry in added.data["staged"]} == {
        "src/app.py": "modified",
        "NOTES.md": "added",
    }
    assert "+print('two')" in door.ok("git.diff", staged=True).text
    committed = door.ok("git.commit", message="Say two\n\nBecause one was not enough.")
    assert committed.data["branch"] == "fix"
    text, state = door.preview("git.push", branch="fix")
    assert state == {
        "local_sha": committed.data["sha"],
        "remote_ref": "refs/heads/fix",
        "remote_sha": "",
        "url": str(remote.path),
    }
    assert "Say two" in text and "+print('two')" in text and "new branch" in text
    assert remote.sha("fix") == ""
    pushed = door.ok("git.push", state, branch="fix")
    assert remote.sha("fix") == committed.data["sha"] == pushed.data["local_sha"]
    assert "Countersign-Step:" in plain_git(remote.path, "log", "-1", "--format=%B", "fix")
    assert door.ok("git.status").data["ahead"] == 0


def test_reading_names_commits_files_and_branches(door: Door, remote: Remote):
    sha = door.commit({"src/app.py": "print('two')\n"}, "Say two")
    log = door.ok("git.log", max_count=5)
    assert [commit["subject"] for commit in log.data["commits"]] == ["Say two", "First"]
    assert log.data["commits"][0]["author"] == "Countersign agent"
    assert [c["sha"] for c in door.ok("git.log", exclude_ref="origin/main").data["commits"]] == [sha]
    assert door.ok("git.log", ref="HEAD~1", paths=["README.md"]).data["commits"][0]["subject"] == "First"
    shown = door.ok("git.show", ref=sha)
    assert "+print('two')" in shown.text and "Say two" in shown.text
    assert door.ok("git.show", ref="HEAD~1", path="src/app.py").text == "print('one')\n"
    assert not door.run("git.show", ref="HEAD", path="nowhere").ok
    between = door.ok("git.diff", from_ref="origin/main", to_ref="HEAD", stat_only=True)
    assert between.data["files"] == [{"path": "src/app.py", "added": 1, "removed": 1}]
    assert "+print" not in between.text
    listed = door.ok("git.branch")
    assert {entry["name"]: entry["current"] for entry in listed.data["branches"]} == {
        "main": True,
        "origin/main": False,
    }
    unknown = door.run("git.log", ref="nowhere")
    assert (unknown.ok, unknown.data["code"]) == (False, "unknown_ref")


def test_reading_leaves_the_repository_read_only(door: Door):
    result = door.ok("git.status")
    assert result.sandbox["profiles"] == ["read"]
    assert result.sandbox["network"] == "none"


def test_a_commit_with_nothing_staged_says_so(door: Door):
    door.write("src/app.py", "print('two')\n")
    result = door.run("git.commit", message="Nothing")
    assert (result.ok, result.data["code"]) == (False, "nothing_staged")
    assert "Nothing is staged" in result.summary


def test_adding_what_is_not_there_or_is_ignored_is_refused_not_raised(door: Door):
    missing = door.run("git.add", paths=["nowhere.txt"])
    assert not missing.ok and "nowhere.txt" in missing.summary
    door.commit({".gitignore": "*.log\n"})
    door.write("x.log", "x")
    assert not door.run("git.add", paths=["x.log"]).ok


def test_deletions_are_staged(door: Door):
    (door.workspace.tree / "README.md").unlink()
    added = door.ok("git.add", paths=["README.md"])
    assert added.data["staged"] == [{"path": "README.md", "change": "deleted"}]


def test_the_preview_of_a_commit_is_what_the_commit_then_holds(door: Door):
    door.write("src/app.py", "print('two')\n")
    door.ok("git.add", paths=["src/app.py"])
    text, state = door.preview("git.commit", message="Say two")
    assert "+print('two')" in text and "Say two" in text
    assert list(door.workspace.scratch.glob("quarantine-*")) == []
    committed = door.ok("git.commit", state, message="Say two")
    assert plain_tree(door, committed.data["sha"]) == state["tree"]


def plain_tree(door: Door, sha: str) -> str:
    arguments = ("-c", "safe.directory=*", "rev-parse", f"{sha}^{{tree}}")
    return plain_git(door.workspace.tree.parent, f"--git-dir={door.workspace.git_dir}", *arguments)


def test_a_commit_approved_for_one_tree_does_not_make_another(door: Door):
    door.write("src/app.py", "print('two')\n")
    door.ok("git.add", paths=["src/app.py"])
    _, state = door.preview("git.commit", message="Say two")
    door.write("src/app.py", "import os\n")
    door.ok("git.add", paths=["src/app.py"])
    with pytest.raises(PermitMismatch):
        door.run("git.commit", state, message="Say two")
    assert len(door.ok("git.log").data["commits"]) == 1


def test_a_lost_commit_is_found_by_its_step(door: Door):
    door.write("src/app.py", "print('two')\n")
    door.ok("git.add", paths=["src/app.py"])
    assert door.probe("git.commit", message="Say two") is None
    sha = door.ok("git.commit", message="Say two\n\nReviewed-by: Ada <ada@example.org>").data["sha"]
    found = door.probe("git.commit", message="Say two")
    assert found is not None and found.data["sha"] == sha
    door.step_id = "another-step"
    assert door.probe("git.commit", message="Say two") is None


def test_a_message_may_not_forge_the_trailer(door: Door):
    with pytest.raises(ToolRefused):
        door.run("git.commit", message="x\n\ncountersign-step: 0192")


def test_branches_are_made_once_and_checked_out(door: Door):
    first = door.ok("git.branch", create="feature/a")
    again = door.ok("git.branch", create="feature/a").data
    assert (again["sha"], again["created"], first.data["created"]) == (first.data["sha"], False, True)
    assert first.data["undo"]["tool"] == "git.delete_branch" and "undo" not in again
    door.commit({"a.txt": "a\n"})
    taken = door.run("git.branch", create="feature/a")
    assert (taken.ok, taken.data["code"]) == (False, "branch_exists")
    assert door.ok("git.checkout", ref="feature/a").data["branch"] == "feature/a"
    assert not (door.workspace.tree / "a.txt").exists()
    assert door.ok("git.checkout", ref="main~1").data["branch"] == ""
    assert door.run("git.checkout", ref="nowhere").data["code"] == "unknown_ref"


def test_a_branch_of_origin_is_checked_out_as_a_local_one(door: Door, remote: Remote):
    remote.commit({"b.txt": "b\n"}, "B", "topic")
    assert door.run("git.checkout", ref="topic").ok is False
    assert list(door.ok("git.fetch").data["changed"]) == ["origin/topic"]
    result = door.ok("git.checkout", ref="topic")
    assert (result.data["branch"], result.data["sha"]) == ("topic", remote.sha("topic"))
    assert result.data["undo"] == {"tool": "git.checkout", "arguments": {"ref": "main"}}


def test_checkout_does_not_overwrite_changes(door: Door):
    door.ok("git.checkout", ref="other", create=True)
    door.commit({"src/app.py": "print('other')\n"})
    door.ok("git.checkout", ref="main")
    door.write("src/app.py", "precious\n")
    refused = door.run("git.checkout", ref="other")
    assert (refused.ok, refused.data["code"]) == (False, "checkout_refused")
    assert (door.workspace.tree / "src/app.py").read_text() == "precious\n"


def test_merge_previews_merges_and_is_found_again(door: Door):
    door.ok("git.checkout", ref="topic", create=True)
    door.commit({"a.txt": "a\n"}, "On the topic")
    door.ok("git.checkout", ref="main")
    door.commit({"b.txt": "b\n"}, "On main")
    text, state = door.preview("git.merge", ref="topic")
    assert "On the topic" in text and "1 commit" in text
    assert door.probe("git.merge", state, ref="topic") is None
    merged = door.ok("git.merge", state, ref="topic")
    assert merged.data["how"] == "merge commit"
    assert (door.workspace.tree / "a.txt").exists()
    assert door.probe("git.merge", state, ref="topic") is not None
    assert door.ok("git.merge", ref="topic").data["how"] == "already merged"


def conflict(door: Door) -> None:
    door.ok("git.checkout", ref="topic", create=True)
    door.commit({"src/app.py": "print('topic')\n"})
    door.ok("git.checkout", ref="main")
    door.commit({"src/app.py": "print('main')\n"})


def test_a_merge_with_conflicts_is_taken_back(door: Door):
    conflict(door)
    result = door.run("git.merge", ref="topic")
    assert (result.ok, result.data["code"], result.data["conflicts"]) == (False, "conflicts", ["src/app.py"])
    assert door.ok("git.status").data["clean"]


def test_conflicts_can_be_kept_resolved_and_committed(door: Door):
    conflict(door)
    assert door.run("git.merge", ref="topic", on_conflict="keep").data["kept"]
    status = door.ok("git.status")
    assert status.data["merging"] and status.data["entries"][0]["index"] == "U"
    assert "unmerged" in door.preview("git.commit", message="x")[0]
    assert door.run("git.commit", message="Too early").ok is False
    door.write("src/app.py", "print('both')\n")
    door.ok("git.add", paths=["src/app.py"])
    door.ok("git.commit", message="Merge topic")
    assert len(door.ok("git.log").data["commits"][0]["parents"]) == 2


def test_a_kept_merge_can_be_aborted(door: Door):
    conflict(door)
    door.run("git.merge", ref="topic", on_conflict="keep")
    door.ok("git.merge", abort=True)
    assert door.ok("git.status").data["clean"]
    assert door.run("git.merge", abort=True).data["code"] == "no_merge"


def test_tags_are_made_once_and_found_again(door: Door):
    text, state = door.preview("git.tag", name="v1.0", message="Version one")
    assert "First" in text
    assert door.probe("git.tag", state, name="v1.0") is None
    door.ok("git.tag", state, name="v1.0", message="Version one")
    assert door.probe("git.tag", state, name="v1.0") is not None
    assert door.run("git.tag", name="v1.0").data["code"] == "tag_exists"
    door.ok("git.tag", name="plain")


def test_a_tag_is_pushed_once_and_never_moved(door: Door, remote: Remote):
    """An annotated one on a commit that origin has, then one on a commit that it has not, then a plain one."""
    assert door.run("git.push_tag", tag="v1").data["code"] == "unknown_ref"
    door.ok("git.tag", name="v1", message="Version one")
    sha = door.commit({"a.txt": "a\n"}, "Add a")
    door.ok("git.tag", name="v2", message="Version two")
    door.ok("git.tag", name="plain", ref="v1")
    for name, subject, commit in (("v1", "First", remote.sha("main")), ("v2", "Add a", sha), ("plain", "First", "")):
        text, state = door.preview("git.push_tag", tag=name)
        assert "new tag" in text and state["remote_sha"] == "" and state["remote_ref"] == f"refs/tags/{name}"
        assert "Version" in text or name == "plain"
        assert ("Add a" in text) is (name == "v2")
        assert plain_git(remote.path, "tag", "--list", name) == ""
        assert door.probe("git.push_tag", state, tag=name) is None
        pushed = door.ok("git.push_tag", state, tag=name)
        assert pushed.data["commit"] == (commit or remote.sha("main"))
        assert plain_git(remote.path, "rev-parse", name) == state["local_sha"]
        assert plain_git(remote.path, "log", "-1", "--format=%s", name) == subject
        assert door.probe("git.push_tag", state, tag=name) is not None
        assert door.ok("git.push_tag", tag=name).data["how"] == "already there"
        assert "Nothing to push" in door.preview("git.push_tag", tag=name)[0]
    assert remote.sha("main") != sha
    plain_git(remote.work, "push", "-q", "origin", "HEAD:refs/tags/taken")
    door.ok("git.tag", name="taken", message="Mine")
    assert "would be refused" in door.preview("git.push_tag", tag="taken")[0]
    theirs = plain_git(remote.path, "rev-parse", "taken")
    assert door.run("git.push_tag", tag="taken").data["code"] == "tag_exists"
    assert plain_git(remote.path, "rev-parse", "taken") == theirs


def test_pushing_again_says_that_it_is_there(door: Door, remote: Remote):
    door.ok("git.checkout", ref="fix", create=True)
    door.commit({"a.txt": "a\n"})
    state = door.preview("git.push", branch="fix")[1]
    assert door.probe("git.push", state, branch="fix") is None
    door.ok("git.push", state, branch="fix")
    assert door.ok("git.push", branch="fix").data["how"] == "already there"
    found = door.probe("git.push", state, branch="fix")
    assert found is not None and found.data["local_sha"] == remote.sha("fix")
    assert "Nothing to push" in door.preview("git.push", branch="fix")[0]


def test_a_branch_can_be_pushed_under_another_name(door: Door, remote: Remote):
    sha = door.commit({"a.txt": "a\n"})
    door.ok("git.push", branch="main", remote_branch="agent/main")
    assert remote.sha("agent/main") == sha != remote.sha("main")


def test_an_approved_push_is_refused_when_the_remote_moved(door: Door, remote: Remote):
    door.commit({"a.txt": "a\n"})
    state = door.preview("git.push", branch="main")[1]
    moved = merged_elsewhere(remote, {"b.txt": "b\n"})
    with pytest.raises(PermitMismatch):
        door.run("git.push", state, branch="main")
    assert remote.sha("main") == moved


def test_a_push_never_overwrites_and_goes_through_after_fetch_and_merge(door: Door, remote: Remote):
    door.commit({"a.txt": "a\n"})
    moved = merged_elsewhere(remote, {"b.txt": "b\n"})
    assert "would be refused" in door.preview("git.push", branch="main")[0]
    refused = door.run("git.push", branch="main")
    assert (refused.ok, refused.data["code"]) == (False, "not_fast_forward")
    assert remote.sha("main") == moved
    door.ok("git.fetch")
    assert door.ok("git.status").data["behind"] == 1
    door.ok("git.merge", ref="origin/main")
    pushed = door.ok("git.push", branch="main")
    assert remote.sha("main") == pushed.data["local_sha"]


def test_the_lease_holds_between_the_last_look_and_the_push(door: Door, remote: Remote):
    before, sha = remote.sha("main"), door.commit({"a.txt": "a\n"})
    broker = Broker(str(remote.path))
    with broker.open():
        broker.refresh()
        transfer(Git(git_box(door)), broker, "refs/heads/main", sha)
        moved = merged_elsewhere(remote, {"b.txt": "b\n"})
        answer = broker.push(sha, "refs/heads/main", expected=before, dry_run=False)
    assert not answer.ok and "stale" in answer.detail
    assert remote.sha("main") == moved


def test_a_refusal_by_the_remotes_hook_is_told(door: Door, remote: Remote):
    hook = remote.path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no pushes on fridays >&2\nexit 1\n")
    hook.chmod(0o755)
    door.commit({"a.txt": "a\n"})
    result = door.run("git.push", branch="main")
    assert (result.ok, result.data["code"]) == (False, "push_refused")
    assert "no pushes on fridays" in result.text


def test_a_locked_ref_at_the_remote_may_be_tried_again(door: Door, remote: Remote):
    door.commit({"a.txt": "a\n"})
    lock = remote.path / "refs" / "heads" / "main.lock"
    lock.touch()
    with pytest.raises(ToolFailed) as failed:
        door.run("git.push", branch="main")
    assert failed.value.transient
    lock.unlink()
    door.ok("git.push", branch="main")


def test_a_remote_that_is_gone_is_no_reason_to_try_again(door: Door, remote: Remote):
    door.commit({"a.txt": "a\n"})
    remote.path.rename(remote.path.with_name("gone.git"))
    with pytest.raises(ToolFailed) as failed:
        door.run("git.push", branch="main")
    assert not failed.value.transient


def test_a_lost_broker_is_made_again(door: Door, remote: Remote):
    sha = door.commit({"a.txt": "a\n"})
    shutil.rmtree(Broker(str(remote.path)).git_dir)
    door.ok("git.push", branch="main")
    assert remote.sha("main") == sha


def test_pushing_a_branch_that_is_not_there_is_refused(door: Door):
    assert door.run("git.push", branch="nowhere").data["code"] == "unknown_ref"
    with pytest.raises(ToolRefused):
        door.preview("git.push", branch="nowhere")


def test_locks_of_a_killed_attempt_do_not_stand_in_the_way(door: Door):
    door.write("a.txt", "a\n")
    (door.workspace.git_dir / "index.lock").touch()
    door.ok("git.add", paths=["a.txt"])
    (door.workspace.git_dir / "refs" / "heads" / "main.lock").touch()
    door.ok("git.commit", message="A")


def test_operations_need_a_repository(remote: Remote):
    for tool, arguments in (("git.status", {}), ("git.commit", {"message": "x"}), ("git.push", {"branch": "main"})):
        result = Door().run(tool, **arguments)
        assert (result.ok, result.data["code"]) == (False, "no_repository")
