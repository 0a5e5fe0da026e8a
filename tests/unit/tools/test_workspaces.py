"""A job's folder is its own, and an id cannot lead elsewhere."""

import os
import stat
from pathlib import Path

import pytest
from pytest_django import Settings

from audit.ids import uuid7
from tools.errors import SandboxUnavailable, ToolRefused
from tools.sandbox.identity import identity_for
from tools.workspaces import remove, workspace_for


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", "x" * 36, "0190AAAA-0000-7000-8000-000000000000"]
)
def test_only_a_uuid_names_a_workspace(name: str) -> None:
    for function in (workspace_for, remove):
        with pytest.raises(ToolRefused):
            function(name)


def test_the_parts_belong_to_the_sandbox_and_the_folder_does_not() -> None:
    workspace = workspace_for(str(uuid7()))
    try:
        identity = identity_for(workspace.id)
        for part in (workspace.tree, workspace.git_dir, workspace.scratch):
            assert part.stat().st_uid == identity.uid
            assert stat.S_IMODE(part.stat().st_mode) == 0o700
        assert workspace.root.stat().st_uid == os.geteuid()
        assert stat.S_IMODE(workspace.root.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
        assert workspace_for(workspace.id) == workspace
    finally:
        remove(workspace.id)
    assert not workspace.root.exists()
    remove(workspace.id)


def test_two_workspaces_are_two_users_where_the_server_is_root() -> None:
    users = {identity_for(str(uuid7())).uid for _ in range(50)}
    assert len(users) == (50 if os.geteuid() == 0 else 1) or max(users) < 62000
    assert 0 not in users or os.geteuid() == 0


def test_removing_follows_no_link_and_minds_no_mode(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")
    workspace = workspace_for(str(uuid7()))
    (workspace.tree / "link").symlink_to(tmp_path)
    closed = workspace.tree / "closed" / "below"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    closed.chmod(0)
    closed.parent.chmod(0)
    remove(workspace.id)
    assert not workspace.root.exists()
    assert kept.read_text() == "kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's commands run as another user")
def test_a_place_that_the_sandbox_cannot_reach_is_refused_with_the_way_out(tmp_path: Path, settings: Settings) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    settings.WORKSPACE_DIR = closed / "workspaces"
    with pytest.raises(SandboxUnavailable, match="COUNTERSIGN_WORKSPACE_DIR"):
        workspace_for(str(uuid7()))
