"""The file tools: what they say, and that no path, link or race leads them out."""

import fcntl
import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.ids import uuid7
from tools.box import SandboxBox
from tools.builtin.beneath import Beneath, NotThere
from tools.errors import InvalidArguments, ToolRefused
from tools.registry import get, validate
from tools.spec import Limits, Result, Workspace
from tools.workspaces import remove, workspace_for


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    made = workspace_for(str(uuid7()))
    yield made
    remove(made.id)


@pytest.fixture
def box(workspace: Workspace) -> SandboxBox:
    return SandboxBox(workspace, limits=Limits(), call_id="test")


def run(name: str, box: SandboxBox, **arguments: object) -> Result:
    validate(get(name), arguments)
    return get(name).run(arguments, box)


def test_what_is_written_is_read_and_belongs_to_the_sandbox(box: SandboxBox) -> None:
    written = run("files.write", box, path="a/b/c.txt", content="one\ntwo\n")
    assert written.summary == "New file a/b/c.txt: 2 lines (+2 -0)"
    assert written.data["created"] is True
    for path in ("a", "a/b", "a/b/c.txt"):
        assert (box.workspace.tree / path).stat().st_uid == box.workspace.tree.stat().st_uid
    assert run("files.write", box, path="a/b/c.txt", content="one\n2\nthree\n").summary.endswith("(+2 -1)")
    read = run("files.read", box, path="a/b/c.txt")
    assert (read.text, read.data["lines"]) == ("one\n2\nthree\n", 3)
    part = run("files.read", box, path="a/b/c.txt", start_line=2, max_lines=1)
    assert (part.text, part.data["start_line"], part.data["end_line"]) == ("2\n", 2, 2)
    assert box.run(["sh", "-c", "echo more >> a/b/c.txt"]).ok
    assert list((box.workspace.tree / "a/b").iterdir()) == [box.workspace.tree / "a/b/c.txt"]


def test_a_lost_write_is_found_by_its_bytes_and_mode(box: SandboxBox) -> None:
    tool, call = get("files.write"), {"path": "a/b.txt", "content": "one\ntwo\n"}
    target, state = box.workspace.tree / "a" / "b.txt", tool.target_state(call, box)
    assert tool.probe(call, state, box) is None  # before: neither the file nor its folder
    (target.parent).mkdir()
    left = target.parent / ".b.txt.0123456789abcdef"  # killed in the act: half of it, under another name
    left.write_text("one\n")
    assert tool.probe(call, state, box) is None
    assert tool.run(call, box).ok
    assert list(target.parent.iterdir()) == [target]
    found = tool.probe(call, state, box)
    assert found is not None and found.ok
    assert (found.data["sha256"], found.data["mode"]) == (hashlib.sha256(b"one\ntwo\n").hexdigest(), "0644")
    assert tool.probe({**call, "content": "one\ntwo"}, state, box) is None
    assert tool.probe({**call, "content": "one\ntwo\n\n"}, state, box) is None
    target.chmod(0o755)
    assert tool.probe(call, state, box) is None  # a new file is made with 0644
    assert tool.probe(call, {"sha256": "0" * 64}, box) is not None  # one that was there keeps its permissions
    target.unlink()
    target.mkdir()
    assert tool.probe(call, state, box) is None


def test_what_a_living_writer_has_half_written_is_left_alone(box: SandboxBox) -> None:
    half = box.workspace.tree / ".b.txt.0123456789abcdef"
    with half.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run("files.write", box, path="b.txt", content="x\n")
        assert half.exists()
    run("files.write", box, path="b.txt", content="x\n")
    assert not half.exists()


def test_a_file_keeps_its_mode_when_it_is_written_anew(box: SandboxBox) -> None:
    script = box.workspace.tree / "run.sh"
    run("files.write", box, path="run.sh", content="#!/bin/sh\n")
    assert stat.S_IMODE(script.stat().st_mode) == 0o644
    script.chmod(0o755)
    run("files.write", box, path="run.sh", content="#!/bin/sh\necho hi\n")
    assert stat.S_IMODE(script.stat().st_mode) == 0o755


def test_a_preview_is_the_diff_and_the_state_is_what_it_was_made_from(box: SandboxBox) -> None:
    run("files.write", box, path="x", content="one\ntwo\n")
    tool, arguments = get("files.write"), {"path": "x", "content": "one\n2\n"}
    before = tool.target_state(arguments, box)
    assert tool.preview(arguments, box) == "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"
    assert (box.workspace.tree / "x").read_text() == "one\ntwo\n"
    tool.run(arguments, box)
    assert tool.target_state(arguments, box) != before
    assert tool.preview({"path": "new", "content": "a\n"}, box).startswith("--- /dev/null\n+++ b/new\n")


def test_what_is_not_there_is_an_answer_and_no_crash(box: SandboxBox) -> None:
    (box.workspace.tree / "folder").mkdir()
    (box.workspace.tree / "file").write_text("x")
    (box.workspace.tree / "binary").write_bytes(b"a\0b")
    for name, arguments in (
        ("files.read", {"path": "missing"}),
        ("files.read", {"path": "folder"}),
        ("files.read", {"path": "file/below"}),
        ("files.read", {"path": "binary"}),
        ("files.list", {"path": "missing"}),
        ("files.list", {"path": "file"}),
        ("files.write", {"path": "folder", "content": ""}),
        ("files.write", {"path": "file/below", "content": ""}),
        ("files.search", {"pattern": "x", "path": "missing"}),
        ("files.search", {"pattern": "("}),
    ):
        result = run(name, box, **arguments)
        assert not result.ok, name
        assert result.summary


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a\0b", ""])
@pytest.mark.parametrize("name", ["files.read", "files.write", "files.list", "files.search"])
def test_a_path_that_leads_out_is_refused(name: str, path: str, box: SandboxBox) -> None:
    more = {"files.write": {"content": "x"}, "files.search": {"pattern": "x"}}.get(name, {})
    with pytest.raises((ToolRefused, InvalidArguments)):
        run(name, box, path=path, **more)


def test_links_are_not_followed(box: SandboxBox, tmp_path: Path) -> None:
    tree = box.workspace.tree
    (tmp_path / "secret").write_text("secret")
    (tree / "file").symlink_to(tmp_path / "secret")
    (tree / "folder").symlink_to(tmp_path)
    (tree / "inside").write_text("x")
    (tree / "also").symlink_to("inside")
    os.mkfifo(tree / "fifo")
    for path in ("file", "folder/secret", "also", "fifo"):
        with pytest.raises(ToolRefused):
            run("files.read", box, path=path)
    for path in ("file", "folder/new", "folder/a/b", "fifo"):
        with pytest.raises(ToolRefused):
            run("files.write", box, path=path, content="overwritten")
    with pytest.raises(ToolRefused):
        run("files.list", box, path="folder")
    assert (tmp_path / "secret").read_text() == "secret"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret"]
    kinds = {entry["path"]: entry["kind"] for entry in run("files.list", box, depth=3).data["entries"]}
    assert kinds == {"file": "link", "folder": "link", "also": "link", "inside": "file", "fifo": "other"}
    assert "secret" not in run("files.search", box, pattern="secret").text


def test_git_is_not_written_by_hand(box: SandboxBox) -> None:
    for path in (".git", ".git/config", "sub/.GIT/hooks/x"):
        with pytest.raises(ToolRefused):
            run("files.write", box, path=path, content="x")


def test_listing_and_searching(box: SandboxBox) -> None:
    for path, content in {
        "a.py": "needle = 1\n",
        "b/c.py": "x\nneedle\n",
        "b/d.txt": "needle\n",
        ".git/x": "needle\n",
    }.items():
        file = box.workspace.tree / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
        if box.workspace.tree.stat().st_uid != os.geteuid():
            for made in (file, file.parent):
                owner = box.workspace.tree.stat()
                os.chown(made, owner.st_uid, owner.st_gid)
    assert run("files.list", box).text == "a.py\nb/"
    assert run("files.list", box, depth=2).text == "a.py\nb/\nb/c.py\nb/d.txt"
    assert run("files.list", box, path="b").text == "b/c.py\nb/d.txt"
    found = run("files.search", box, pattern="^needle")
    assert sorted(found.text.splitlines()) == ["a.py:1:needle = 1", "b/c.py:2:needle", "b/d.txt:1:needle"]
    assert run("files.search", box, pattern="needle", glob="*.py", path="b").text == "b/c.py:2:needle"
    assert run("files.search", box, pattern="-needle").text == "No line matches."


# Swaps the folder and the link in one step (renameat2 with RENAME_EXCHANGE), so that `way` is always one of them.
RACER = """
import ctypes, os, platform, sys
os.chdir(sys.argv[1])
number = ctypes.c_long(316 if platform.machine() == "x86_64" else 276)
print("ready", flush=True)
while ctypes.CDLL(None).syscall(number, -100, b"way", -100, b"link", 2) == 0:
    pass
"""


def test_a_racing_link_leads_nowhere(workspace: Workspace, tmp_path: Path) -> None:
    """A folder on the way is swapped for a link to the outside, as fast as the machine can, while files are read and
    written through it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("secret")
    tree = workspace.tree
    (tree / "way").mkdir()
    (tree / "way" / "file").write_text("inside")
    (tree / "link").symlink_to(outside)
    racer = subprocess.Popen([sys.executable, "-c", RACER, str(tree)], stdout=subprocess.PIPE)
    done = {"read": 0, "written": 0, "refused": 0}
    deadline = time.monotonic() + 20
    try:
        assert racer.stdout is not None
        assert racer.stdout.readline() == b"ready\n"
        with Beneath(tree) as beneath:
            while min(done["read"], done["written"], done["refused"]) < 100 and time.monotonic() < deadline:
                try:
                    beneath.write("way/file", b"written")
                    done["written"] += 1
                    assert beneath.read("way/file", 100) in (b"inside", b"written")
                    done["read"] += 1
                except ToolRefused:
                    done["refused"] += 1
                except NotThere:
                    continue  # it was swapped between two looks
    finally:
        racer.kill()
        racer.communicate()
    assert (outside / "file").read_text() == "secret"
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert min(done.values()) >= 100, done


def test_a_write_is_whole_or_not_at_all(box: SandboxBox) -> None:
    """A reader sees the old or the new content and nothing between."""
    old, new = "a" * 500_000, "b" * 500_000
    run("files.write", box, path="x", content=old)
    stop = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not stop.is_set():
            text = (box.workspace.tree / "x").read_text()
            seen.add(text[:1] + text[-1:] + str(len(text)))

    reader = threading.Thread(target=read)
    reader.start()
    for content in [new, old] * 10:
        run("files.write", box, path="x", content=content)
    stop.set()
    reader.join()
    assert seen <= {"aa500000", "bb500000"}


def test_what_is_too_large_is_refused(box: SandboxBox) -> None:
    with pytest.raises(InvalidArguments):
        run("files.write", box, path="x", content="x" * 1_000_001)
    (box.workspace.tree / "big").write_bytes(b"x\n" * (3 << 20))
    assert "limit" in run("files.read", box, path="big").summary
    (box.workspace.tree / "wide").write_text("x" * 500_000)
    read = run("files.read", box, path="wide")
    assert len(read.text) < 100_000
    assert read.truncated_bytes > 0
