"""A workspace holds no more than it may, however a command tries to hide what it wrote."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pytest_django import Settings

from audit.ids import uuid7
from config.doctor.room import room
from tools import permits, quota, registry, runner
from tools.box import SandboxBox
from tools.builtin.beneath import Beneath
from tools.errors import OverQuota, ServerFull
from tools.models import Permit
from tools.quota import disk
from tools.quota.bounds import MIB, Bounds
from tools.quota.measure import DEPTH_MAX, Usage, measure
from tools.quota.shared import shares_blocks
from tools.spec import Box, Call, Completed, Effect, Limits, Result, Tool, Workspace
from tools.workspaces import remove, workspace_for

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    made = workspace_for(str(uuid7()))
    yield made
    remove(made.id)


def box(workspace: Workspace) -> SandboxBox:
    return SandboxBox(workspace, limits=Limits(timeout_s=60.0), call_id="test")


def python(workspace: Workspace, source: str) -> Completed:
    return box(workspace).run(["python3", "-c", source])


def write(workspace: Workspace, name: str, size: int) -> None:
    with Beneath(workspace.tree) as tree:
        tree.write(name, b"x" * size)


def test_what_lies_there_is_counted_once_and_no_link_is_followed(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * MIB)
    assert measure(workspace) == Usage()
    write(workspace, "a/b", 100_000)
    os.link(workspace.tree / "a" / "b", workspace.tree / "again")
    (workspace.tree / "link").symlink_to(tmp_path)
    (workspace.tree / "file").symlink_to(tmp_path / "large")
    with open(workspace.scratch / "sparse", "wb") as sparse:
        sparse.truncate(1 << 30)
    found = measure(workspace)
    assert found.files == 6
    assert 100_000 <= found.size_bytes < 200_000


@pytest.mark.parametrize("mode", [0, 0o400, 0o300])
@pytest.mark.parametrize("folders", [["closed/below", "closed"], ["."]])
def test_a_closed_folder_hides_nothing_and_stays_closed(folders: list[str], mode: int, workspace: Workspace) -> None:
    """Counted by the user that the files belong to, whom closed folders keep out where they are not root."""
    write(workspace, "closed/below/large", MIB)
    for folder in folders:
        (workspace.tree / folder).chmod(mode)
    owner = workspace.tree.stat()
    answer, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
                os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
            os.write(tell, str(measure(workspace).size_bytes).encode())
        finally:
            os._exit(0)
    os.close(tell)
    with open(answer) as said:
        assert int(said.read()) >= MIB
    os.waitpid(child, 0)
    assert (workspace.tree / folders[-1]).stat().st_mode & 0o777 == mode


def test_a_count_ends_where_nobody_needs_more(workspace: Workspace) -> None:
    for number in range(50):
        write(workspace, f"{number}/file", 10)
    assert measure(workspace, enough=lambda size, files: files > 60).files < 100


def test_folders_deeper_than_can_be_counted_are_too_much(workspace: Workspace) -> None:
    here = os.open(workspace.tree, os.O_RDONLY)
    for _ in range(DEPTH_MAX + 2):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    found = measure(workspace)
    assert "deeper" in Bounds(size_bytes=MIB).broken(found)
    assert not Bounds(size_bytes=MIB).not_below(found).broken(found)


GROW = """
import os, time
for number in range(10_000):
    with open(f"file-{number}", "wb") as file:
        file.write(os.urandom(1 << 20))
    time.sleep(0.005)
"""
HIDE = """
import os, time
held = []
for number in range(10_000):
    file = open("hidden", "wb")
    os.unlink("hidden")
    file.write(os.urandom(1 << 20)); file.flush()
    held.append(file)
    time.sleep(0.005)
"""
MANY = """
import os, time
for number in range(1_000_000):
    os.close(os.open(f"{number}", os.O_CREAT | os.O_WRONLY))
    if not number % 100: time.sleep(0.005)
"""


@pytest.mark.parametrize(("source", "said"), [(GROW, "MiB"), (HIDE, "MiB"), (MANY, "files")])
def test_a_command_that_fills_its_workspace_is_ended(
    source: str, said: str, workspace: Workspace, settings: Settings
) -> None:
    settings.WORKSPACE_QUOTA_MB = 8
    settings.WORKSPACE_QUOTA_FILES = 500 if source is MANY else 100_000
    ended = python(workspace, source)
    assert ended.ended_by == "disk_quota"
    assert "the workspace is full" in ended.stderr
    assert said in ended.stderr


def test_a_command_that_ends_by_itself_is_not_blamed(workspace: Workspace, settings: Settings) -> None:
    settings.WORKSPACE_QUOTA_MB = 1
    ended = python(workspace, "open('small', 'w').write('x' * 1000)")
    assert (ended.exit_code, ended.ended_by) == (0, "")


def test_a_full_workspace_may_be_made_smaller(workspace: Workspace, settings: Settings) -> None:
    settings.WORKSPACE_QUOTA_MB = 1
    write(workspace, "large", 3 * MIB)
    ended = python(workspace, "import os, time; time.sleep(0.7); os.unlink('large')")
    assert (ended.exit_code, ended.ended_by) == (0, "")
    ended = python(workspace, GROW)
    assert ended.ended_by == "disk_quota"


def test_the_last_of_the_disk_is_left(workspace: Workspace, settings: Settings) -> None:
    settings.WORKSPACE_DISK_FREE_MB = 1 << 40
    ended = python(workspace, "import time; time.sleep(60)")
    assert ended.ended_by == "disk_quota"
    assert "the disk of the workspaces is full" in ended.stderr
    with pytest.raises(ServerFull, match="stay free"):
        quota.admit(workspace, by_itself=False)


def test_a_slow_count_of_much_room_is_not_made_after_every_step(workspace: Workspace, settings: Settings) -> None:
    quota.note(workspace)
    first = disk.recorded(workspace.root)
    assert first is not None
    slow = disk.Recorded(size_bytes=1, files=1, why="", snapshots_bytes=0, at=first.at, took_s=3600.0)
    disk.record(workspace, slow)
    quota.note(workspace)
    assert disk.recorded(workspace.root) == slow
    settings.WORKSPACE_QUOTA_FILES = 1  # more than half of it is used
    quota.note(workspace)
    assert disk.recorded(workspace.root) != slow


def test_what_all_hold_together_is_bounded(workspace: Workspace, settings: Settings) -> None:
    settings.WORKSPACES_TOTAL_MB = 1
    write(workspace, "large", 2 * MIB)
    quota.note(workspace)
    assert disk.total_bytes(fresh=True) >= 2 * MIB
    with pytest.raises(ServerFull, match="all workspaces together"):
        quota.admit(workspace, by_itself=False)
    settings.WORKSPACES_TOTAL_MB = 0
    quota.admit(workspace, by_itself=False)


def test_no_thread_is_left(workspace: Workspace) -> None:
    python(workspace, "print(1)")
    assert "quota" not in {thread.name for thread in threading.enumerate()}


class Filler(Tool):
    """Writes by itself as much as it is told."""

    name: ClassVar[str] = "test.filler"
    summary: ClassVar[str] = "Fills the workspace."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"size": {"type": "integer"}},
        "required": ["size"],
        "additionalProperties": False,
    }
    effect: ClassVar[Effect] = Effect.REPEATABLE
    queue: ClassVar[str] = "shell"
    needs_profile: ClassVar[str] = "build"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        write(box.workspace, "filled", arguments["size"])
        return Result(ok=True, summary="filled")


@pytest.fixture
def fill(workspace: Workspace) -> Iterator[Callable[..., Result]]:
    registry.register(Filler())

    def do(size: int, *, deleted: str = "") -> Result:
        arguments: dict[str, Any] = {"path": deleted} if deleted else {"size": size}
        name = "files.delete" if deleted else Filler.name
        call = Call(tool=name, schema_version=1, arguments=arguments, workspace_id=workspace.id)
        permit = permits.issue(subject="step-1", digest=call.digest(), granted_by="test", now=NOW)
        return runner.run(
            call, permit.pk, worker="worker-1", on_output=lambda *_: None, cancelled=lambda: False, now=NOW
        )

    yield do
    registry.unregister(Filler.name)


@pytest.mark.django_db
def test_a_tool_that_writes_by_itself_does_not_add_to_a_full_workspace(
    fill: Callable[..., Result], settings: Settings
) -> None:
    settings.WORKSPACE_QUOTA_MB = 1
    assert fill(3 * MIB).ok
    with pytest.raises(OverQuota, match="Remove files"):
        fill(1)
    assert Permit.objects.filter(spent_at=None).count() == 1, "the permit of what did not run is unspent"
    assert fill(0, deleted="filled").ok, "what only takes away may run"
    assert fill(1).ok


def test_the_doctor_says_what_room_there_is(workspace: Workspace, settings: Settings) -> None:
    quota.note(workspace)
    (found,) = room()
    assert (found.level, "MiB are free" in found.says) == ("ok", True)
    assert ("share blocks" in found.says) is shares_blocks(workspace.root.parent)
    settings.WORKSPACE_DISK_FREE_MB = 1 << 40
    (found,) = room()
    assert (found.level, "disk of the workspaces is full" in found.says) == ("fail", True)
