"""workspace.prepare: which remotes, and what a second attempt does."""

from pathlib import Path

import pytest
from django.conf import settings

from tests.integration.tools.git_support import Door, Remote, git_box, make_remote, plain_git
from tools import workspaces
from tools.builtin.git import remotes
from tools.errors import ToolError, ToolFailed, ToolRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return make_remote(tmp_path)


def test_a_finished_clone_is_recognised_and_left_alone(remote: Remote):
    door = Door()
    first = door.ok("workspace.prepare", url=str(remote.path), branch="main")
    door.write("work.txt", "in progress\n")
    remote.commit({"new.txt": "new\n"}, "Later")
    again = door.ok("workspace.prepare", url=str(remote.path), branch="main")
    assert again.data == first.data
    assert (door.workspace.tree / "work.txt").exists()


def test_a_half_done_attempt_is_begun_afresh(remote: Remote):
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path))
    remotes.forget(door.workspace)  # the record is written last
    door.write("left/over.txt", "from the first attempt\n")
    (door.workspace.tree / "left").chmod(0o500)
    (door.workspace.git_dir / "config").unlink()
    (door.workspace.git_dir / "index.lock").touch()
    door.ok("workspace.prepare", url=str(remote.path))
    assert sorted(path.name for path in door.workspace.tree.iterdir()) == [".git", "README.md", "src"]
    assert door.ok("git.status").data["clean"]


def test_emptying_follows_no_link_out_of_the_workspace(remote: Remote, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious\n")
    door = Door()
    (door.workspace.tree / "link").symlink_to(outside)
    (door.workspace.git_dir / "objects").symlink_to(outside)
    door.ok("workspace.prepare", url=str(remote.path))
    assert (outside / "precious").read_text() == "precious\n"


def test_the_default_branch_is_the_remotes_own(remote: Remote):
    remote.commit({"x": "x"}, "On trunk", "trunk")
    plain_git(remote.path, "symbolic-ref", "HEAD", "refs/heads/trunk")
    result = Door().ok("workspace.prepare", url=str(remote.path))
    assert (result.data["branch"], result.data["default_branch"]) == ("trunk", "trunk")


def test_an_unknown_branch_is_refused_and_named(remote: Remote):
    result = Door().run("workspace.prepare", url=str(remote.path), branch="nowhere")
    assert (result.ok, result.data) == (False, {"code": "unknown_branch", "branches": ["main"]})


def test_an_empty_remote_can_be_started_and_pushed_to(tmp_path: Path):
    plain_git(tmp_path, "init", "-q", "--bare", "--initial-branch=main", "empty.git")
    door = Door()
    result = door.ok("workspace.prepare", url=str(tmp_path / "empty.git"), branch="main")
    assert result.data["sha"] == ""
    status = door.ok("git.status")
    assert (status.data["branch"], status.data["sha"]) == ("main", "")
    assert door.run("git.log").ok is False
    door.write("first.txt", "first\n")
    door.ok("git.add", paths=["first.txt"])
    assert "+first" in door.preview("git.commit", message="The first")[0]
    sha = door.ok("git.commit", message="The first").data["sha"]
    assert "The first" in door.preview("git.push", branch="main")[0]
    door.ok("git.push", branch="main")
    assert plain_git(tmp_path / "empty.git", "rev-parse", "main") == sha


def test_another_repository_does_not_replace_the_one_that_is_there(remote: Remote, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    second = make_remote(other)
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path))
    result = door.run("workspace.prepare", url=str(second.path))
    assert (result.ok, result.data["code"]) == (False, "other_repository")


def test_tags_and_all_branches_come_along(remote: Remote):
    remote.commit({"x": "x"}, "X", "topic")
    plain_git(remote.work, "tag", "v1")
    plain_git(remote.work, "push", "-q", "origin", "v1")
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    assert door.ok("git.show", ref="v1").data["commit"]["subject"] == "X"
    assert {entry["name"] for entry in door.ok("git.branch").data["branches"]} == {
        "main",
        "origin/main",
        "origin/topic",
    }


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x.git",
        "ssh://git@example.org/x.git",
        "git@example.org:x.git",
        "git://example.org/x.git",
        "ext::sh -c 'touch /tmp/pwned'",
        "--upload-pack=touch /tmp/pwned",
        "https://user:secret@example.org/x.git",
        "https://token@example.org/x.git",
        "https://example.org/x.git?a=b",
        "https:///x.git",
        "https://exa mple.org/x.git",
        "https://example.org/x\n.git",
        "file://elsewhere/srv/x.git",
        "relative/path",
        "fd::17",
    ],
)
def test_only_plain_https_and_local_paths_are_addresses(url: str):
    with pytest.raises(ToolRefused):
        Door().run("workspace.prepare", url=url)


def test_local_remotes_need_the_servers_leave(remote: Remote, settings):
    settings.ALLOW_LOCAL_REPOSITORIES = False
    for url in (str(remote.path), f"file://{remote.path}"):
        with pytest.raises(ToolRefused, match="ALLOW_LOCAL_REPOSITORIES"):
            Door().run("workspace.prepare", url=url)


def test_another_jobs_workspace_and_the_brokers_cannot_be_cloned(remote: Remote, tmp_path: Path):
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path))
    link = tmp_path / "link.git"
    link.symlink_to(door.workspace.git_dir)
    for path in (door.workspace.git_dir, link, Path(settings.DATA_DIR) / "broker"):
        with pytest.raises(ToolRefused):
            Door().run("workspace.prepare", url=str(path))


def test_a_path_without_a_repository_fails_for_good(tmp_path: Path):
    with pytest.raises(ToolFailed) as failed:
        Door().run("workspace.prepare", url=str(tmp_path / "nowhere.git"))
    assert not failed.value.transient


def test_a_host_that_does_not_answer_may_be_tried_again():
    with pytest.raises(ToolError) as failed:
        Door().run("workspace.prepare", url="https://127.0.0.1:1/x.git")
    assert failed.value.transient


def test_nothing_of_the_handover_is_left(remote: Remote):
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path))
    names = sorted(path.name for path in door.workspace.root.iterdir())
    assert names == ["origin.json", "repo.git", "repository.lock", "scratch", "tree", "usage.json"]
    assert list(door.workspace.scratch.iterdir()) == []


def test_a_removed_workspace_is_prepared_anew(remote: Remote):
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path))
    workspaces.remove(door.job_id)
    workspaces.workspace_for(door.job_id)
    door.ok("workspace.prepare", url=str(remote.path))
    assert door.ok("git.status").data["clean"]


def test_commands_cannot_touch_the_record_of_the_origin(remote: Remote):
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path))
    record = door.workspace.root / "origin.json"
    before = record.read_bytes()
    box = git_box(door)
    for profile in ("read", "build", "git"):
        for command in (f"echo x > {record}", f"rm -f {record}", f"mv {record} {door.workspace.scratch}"):
            box.run(["/bin/sh", "-c", command], profile=profile)
        assert str(remote.path) not in box.run(["cat", str(record)], profile=profile).stdout
    assert record.read_bytes() == before
