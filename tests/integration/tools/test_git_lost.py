"""What the probes of commits, tags and pushes say of an attempt that was killed before, in and after its act."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.tools.git_kills import Attempt, Gate, until
from tests.integration.tools.git_support import Door, Remote, make_remote, plain_git

pytestmark = pytest.mark.django_db


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return make_remote(tmp_path)


@pytest.fixture
def door(remote: Remote) -> Door:
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    return door


def test_a_commit_killed_before_in_and_after(door: Door):
    door.write("a.txt", "a\n")
    door.ok("git.add", paths=["a.txt"])
    before, git_dir = door.ok("git.status").data["sha"], door.workspace.git_dir
    assert door.probe("git.commit", message="Add a") is None
    # git holds the branch's lock and writes its log: the commit exists, and the branch does not name it yet.
    gate = Gate(git_dir / "logs" / "refs" / "heads" / "main", door.workspace.tree.stat())
    attempt = Attempt(door, "git.commit", message="Add a")
    until((git_dir / "refs" / "heads" / "main.lock").exists, "the branch is about to move")
    attempt.kill()
    gate.remove()
    assert door.probe("git.commit", message="Add a") is None
    assert door.ok("git.status").data["sha"] == before
    made = door.ok("git.commit", message="Add a").data["sha"]  # the step again; its result is lost this time
    found = door.probe("git.commit", message="Add a")
    assert found is not None and found.data["sha"] == made
    assert [one["subject"] for one in door.ok("git.log").data["commits"]] == ["Add a", "First"]


def test_a_tag_killed_before_in_and_after(door: Door):
    git_dir = door.workspace.git_dir
    state = door.preview("git.tag", name="v1", message="One")[1]
    assert door.probe("git.tag", state, name="v1", message="One") is None
    # What git leaves that dies between making the tag's object and naming it.
    lock = git_dir / "refs" / "tags" / "v1.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(f"{state['sha']}\n")
    owner = door.workspace.tree.stat()
    for path in (lock, lock.parent):
        os.chown(path, owner.st_uid, owner.st_gid)
    assert door.probe("git.tag", state, name="v1", message="One") is None
    door.ok("git.tag", state, name="v1", message="One")
    found = door.probe("git.tag", state, name="v1", message="One")
    assert found is not None and found.data == {"tag": "v1", "sha": state["sha"]}


Held = Callable[[bool], None]


@pytest.fixture
def held(remote: Remote) -> tuple[Path, Held]:
    """A remote that holds each push before it moves a ref; (a file that says so, what lets it go on or refuse)."""
    here, answer = remote.path / "here", remote.path / "answer"
    os.mkfifo(answer)
    hook = remote.path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f'#!/bin/sh\ntouch {here}\nread word < {answer}\n[ "$word" = yes ]\n')
    hook.chmod(0o755)

    def answered(yes: bool) -> None:
        hook.unlink()
        answer.write_text("yes\n" if yes else "no\n")

    return here, answered


@pytest.mark.parametrize("tool", ["git.push", "git.push_tag"])
@pytest.mark.parametrize("arrives", [True, False])
def test_a_push_killed_before_in_and_after(
    door: Door, remote: Remote, held: tuple[Path, Held], tool: str, arrives: bool
):
    here, answered = held
    door.commit({"a.txt": "a\n"}, "Add a")
    door.ok("git.tag", name="v1", message="One")
    arguments = {"branch": "main"} if tool == "git.push" else {"tag": "v1"}
    state = door.preview(tool, **arguments)[1]
    assert door.probe(tool, state, **arguments) is None
    attempt = Attempt(door, tool, **arguments)
    until(here.exists, "the push reaches the remote")
    attempt.kill_worker()
    answered(arrives)  # git goes on without its worker, and the probe waits for it
    found = door.probe(tool, state, **arguments)
    there = plain_git(remote.path, "rev-parse", "--verify", "-q", state["remote_ref"], check=False)
    assert (found is not None, there == state["local_sha"]) == (arrives, arrives)
    again = door.ok(tool, **arguments)
    assert again.data["how"] == "already there" or not arrives
    assert plain_git(remote.path, "rev-parse", state["remote_ref"]) == state["local_sha"]
