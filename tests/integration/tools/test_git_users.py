"""Who git runs as: the server as root with a remote of somebody else's, and the server without any privilege."""

import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from audit.ids import uuid7
from tests.integration.tools.git_support import Door, Remote, make_remote
from tools import registry, workspaces
from tools.box import SandboxBox
from tools.errors import ToolFailed
from tools.sandbox import probe

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else"),
]
SOMEBODY = 54_321


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="countersign-git-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def give(folder: Path) -> None:
    """Everything in `folder` becomes somebody's."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY, follow_symlinks=False)


@pytest.fixture
def remote(open_folder: Path) -> Remote:
    return make_remote(open_folder)


def test_root_serves_somebodys_remote_as_somebody(remote: Remote, open_folder: Path):
    (remote.path / "hooks").mkdir(exist_ok=True)
    hook = remote.path / "hooks" / "post-receive"
    hook.write_text(f"#!/bin/sh\nid -u > {remote.path}/ran-as; id -G >> {remote.path}/ran-as\n")
    hook.chmod(0o755)
    give(remote.path)
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    door.commit({"a.txt": "a\n"})
    door.ok("git.push", branch="main")
    assert (remote.path / "ran-as").read_text().split() == [str(SOMEBODY), str(SOMEBODY)]
    assert {path.lstat().st_uid for path in (remote.path, *remote.path.rglob("*"))} == {SOMEBODY}


def test_a_remote_that_its_owner_may_not_write_refuses_the_push(remote: Remote):
    give(remote.path)
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    door.commit({"a.txt": "a\n"})
    for path in (remote.path / "objects", remote.path / "refs" / "heads"):
        os.chown(path, 0, 0)
    with pytest.raises(ToolFailed):
        door.run("git.push", branch="main")


def as_somebody(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` gives when a process without any privilege does it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answer: dict[str, Any] = {}
        try:
            os.setgroups([])
            os.setresgid(SOMEBODY, SOMEBODY, SOMEBODY)
            os.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
            answer = work()
        except BaseException:
            answer = {"error": traceback.format_exc()}
        finally:
            os.write(writer, json.dumps(answer).encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = json.loads(answers.read())
    os.waitpid(child, 0)
    assert "error" not in answer, answer["error"]
    return answer


@pytest.mark.parametrize("tier", probe.TIERS)
def test_without_privileges_a_change_goes_all_the_way(
    tier: str, remote: Remote, open_folder: Path, settings, monkeypatch: pytest.MonkeyPatch
):
    Door().ok("workspace.prepare", url=str(remote.path))  # imports everything while the libraries can be read
    mine = open_folder / "mine"
    mine.mkdir()
    give(mine)
    give(remote.path)
    settings.DATA_DIR, settings.WORKSPACE_DIR = mine / "data", mine / "workspaces"
    monkeypatch.setenv("SANDBOX_TIER", tier)
    interpreter = shutil.which("python3", path="/usr/bin:/bin")
    if interpreter is None:
        pytest.skip("no python3 that somebody else can run")
    monkeypatch.setattr(sys, "executable", interpreter)

    def work() -> dict[str, Any]:
        probe.forget()
        probe.use_folder(Path(django_settings.WORKSPACE_DIR))
        report = probe.report(tier)
        if not report.works:
            return {"skip": report.why}
        workspace = workspaces.workspace_for(str(uuid7()))

        def do(name: str, **arguments: Any) -> Any:
            tool = registry.get(name)
            registry.validate(tool, arguments)
            result = tool.run(arguments, SandboxBox(workspace, limits=tool.limits, call_id="step"))
            assert result.ok, (name, result.summary, result.text)
            return result

        prepared = do("workspace.prepare", url=str(remote.path), branch="main")
        do("git.checkout", ref="topic", create=True)
        (workspace.tree / "a.txt").write_text("a\n")
        do("git.add", paths=["a.txt"])
        committed = do("git.commit", message="A")
        push = registry.get("git.push")
        looking = SandboxBox(workspace, limits=push.limits, call_id="step", read_only=True)
        preview = push.preview({"branch": "topic"}, looking)
        do("git.push", branch="topic")
        return {"sha": committed.data["sha"], "preview": preview, "sandbox": dict(prepared.sandbox)}

    done = as_somebody(work)
    if "skip" in done:
        pytest.skip(f"{tier}: {done['skip']}")
    assert remote.sha("topic") == "" or remote.sha("topic") == done["sha"]
    assert (remote.path / "refs/heads/topic").read_text().strip() == done["sha"]
    assert "+a" in done["preview"]
    assert done["sandbox"]["uid"] == SOMEBODY and done["sandbox"]["tier"] == tier
