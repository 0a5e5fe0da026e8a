"""files.patch, files.move, files.delete, files.mkdir: what they do, all or nothing, and that nothing leads them out."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.ids import uuid7
from tests.integration.tools.test_files import RACER
from tools import registry
from tools.box import SandboxBox
from tools.builtin.beneath import Beneath, NotThere
from tools.errors import InvalidArguments, ToolFailed, ToolRefused
from tools.registry import get, validate
from tools.risk import reach_of
from tools.spec import Call, Limits, Result, Risk, Workspace
from tools.workspaces import remove, workspace_for

TWO = (
    "--- a/x.txt\n+++ b/x.txt\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"
    "diff --git a/d/new.sh b/d/new.sh\nnew file mode 100755\n--- /dev/null\n+++ b/d/new.sh\n@@ -0,0 +1 @@\n+#!/bin/sh\n"
    "--- a/gone.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-bye\n"
)


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    made = workspace_for(str(uuid7()))
    yield made
    remove(made.id)


@pytest.fixture
def box(workspace: Workspace) -> SandboxBox:
    (workspace.tree / "x.txt").write_text("one\ntwo\n")
    (workspace.tree / "gone.txt").write_text("bye\n")
    return SandboxBox(workspace, limits=Limits(), call_id="test")


def run(name: str, box: SandboxBox, **arguments: object) -> Result:
    validate(get(name), arguments)
    return get(name).run(arguments, box)


def tree_of(box: SandboxBox) -> dict[str, str]:
    top = box.workspace.tree
    return {str(path.relative_to(top)): path.read_text() for path in sorted(top.rglob("*")) if path.is_file()}


def test_a_patch_changes_makes_and_deletes_files_at_once(box: SandboxBox) -> None:
    tool, arguments = get("files.patch"), {"patch": TWO}
    before = tool.target_state(arguments, box)
    preview = tool.preview(arguments, box)
    assert preview.startswith("3 files changed, 2 lines added, 2 removed:\n  x.txt | +1 -1\n  d/new.sh (new) | +1 -0\n")
    assert (
        "diff --git a/x.txt b/x.txt\n--- a/x.txt\n+++ b/x.txt\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"
        "diff --git a/d/new.sh b/d/new.sh\nnew file mode 100755\n--- /dev/null\n+++ b/d/new.sh\n" in preview
    )
    assert tree_of(box) == {"x.txt": "one\ntwo\n", "gone.txt": "bye\n"}
    call = Call(tool="files.patch", schema_version=1, arguments=arguments, workspace_id="w")
    assert reach_of(call, preview, before) == {"files": 3, "lines_added": 2, "lines_removed": 2}
    done = run("files.patch", box, **arguments)
    assert (done.ok, done.summary) == (True, "Patched 3 files (+2 -2)")
    assert [(one["path"], one["change"]) for one in done.data["files"]] == [
        ("x.txt", "changed"), ("d/new.sh", "created"), ("gone.txt", "deleted"),
    ]  # fmt: skip
    assert tree_of(box) == {"x.txt": "one\n2\n", "d/new.sh": "#!/bin/sh\n"}
    new = (box.workspace.tree / "d/new.sh").stat()
    assert (stat.S_IMODE(new.st_mode), new.st_uid) == (0o755, box.workspace.tree.stat().st_uid)
    assert tool.target_state(arguments, box) != before


def test_a_newline_at_the_end_is_seen_to_go(box: SandboxBox) -> None:
    patch = "--- a/gone.txt\n+++ b/gone.txt\n@@ -1 +1 @@\n-bye\n+bye\n\\ No newline at end of file\n"
    assert "\\ The last line has no newline now.\n" in get("files.patch").preview({"patch": patch}, box)
    assert run("files.patch", box, patch=patch).ok
    assert (box.workspace.tree / "gone.txt").read_bytes() == b"bye"


def test_a_patch_of_which_one_hunk_does_not_apply_changes_nothing(box: SandboxBox) -> None:
    (box.workspace.tree / "gone.txt").write_text("other\n")
    state = tree_of(box)
    done = run("files.patch", box, patch=TWO)
    assert not done.ok and done.data["error_code"] == "patch_does_not_apply"
    assert "gone.txt: hunk 1 does not apply. Line 1 is 'other', in the patch 'bye'." in done.summary
    assert tree_of(box) == state
    with pytest.raises(ToolRefused, match=r"does not apply: gone\.txt"):
        get("files.patch").preview({"patch": TWO}, box)
    again = run("files.patch", box, patch="--- /dev/null\n+++ b/x.txt\n@@ -0,0 +1 @@\n+new\n")
    assert not again.ok and "is there already" in again.summary
    missing = run("files.patch", box, patch="--- a/none\n+++ b/none\n@@ -1 +1 @@\n-a\n+b\n")
    assert not missing.ok and "There is no none" in missing.summary


def test_a_patch_that_fails_half_way_is_taken_back(box: SandboxBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second file cannot be written: its folder is a file by then."""
    real = Beneath.write

    def write(self: Beneath, path: str, content: bytes, *, new_mode: int = 0o644) -> bool:
        if path == "x.txt" and content == b"one\n2\n":
            (box.workspace.tree / "d").write_text("in the way")
        return real(self, path, content, new_mode=new_mode)

    monkeypatch.setattr(Beneath, "write", write)
    with pytest.raises(ToolFailed, match="taken back"):
        run("files.patch", box, patch=TWO)
    assert tree_of(box) == {"x.txt": "one\ntwo\n", "gone.txt": "bye\n", "d": "in the way"}


class Killed(BaseException):
    """The worker dies here."""


def test_a_lost_patch_is_gone_on_with(box: SandboxBox, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Beneath.write
    tool, arguments = get("files.patch"), {"patch": TWO}

    def die(self: Beneath, path: str, content: bytes, *, new_mode: int = 0o644) -> bool:
        if path == "d/new.sh":
            raise Killed
        return real(self, path, content, new_mode=new_mode)

    assert tool.probe(arguments, {}, box) is None
    with monkeypatch.context() as patched:
        patched.setattr(Beneath, "write", die)
        with pytest.raises(Killed):
            run("files.patch", box, **arguments)
    assert tree_of(box)["x.txt"] == "one\n2\n" and "d/new.sh" not in tree_of(box)
    assert tool.probe(arguments, {}, box) is None
    assert run("files.patch", box, **arguments).ok
    assert tree_of(box) == {"x.txt": "one\n2\n", "d/new.sh": "#!/bin/sh\n"}
    found = tool.probe(arguments, {}, box)
    assert found is not None and found.summary == "Patched 3 files (+2 -2)"
    assert run("files.patch", box, **arguments).ok  # once more: its work is done
    other = SandboxBox(box.workspace, limits=Limits(), call_id="another step")
    assert tool.probe(arguments, {}, other) is None
    assert not run("files.patch", other, **arguments).ok


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", ".git/config", "sub/.GIT/hooks/x", "x/"])
def test_a_patch_names_no_path_that_leads_out(path: str, box: SandboxBox) -> None:
    with pytest.raises((ToolRefused, InvalidArguments)):
        run("files.patch", box, patch=f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n")
    for name in ("files.delete", "files.mkdir", "files.move"):
        if path == "x/":
            continue
        with pytest.raises((ToolRefused, InvalidArguments)):
            run(name, box, path=path, **({"to": "y"} if name == "files.move" else {}))
    if path != "x/":
        with pytest.raises((ToolRefused, InvalidArguments)):
            run("files.move", box, path="x.txt", to=path)


def test_links_lead_none_of_them_out(box: SandboxBox, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("one\ntwo\n")
    tree = box.workspace.tree
    (tree / "out").symlink_to(tmp_path)
    (tree / "file").symlink_to(tmp_path / "victim")
    body = "@@ -1,2 +1,2 @@\n one\n-two\n+2\n"
    for path in ("out/victim", "file"):
        with pytest.raises(ToolRefused):
            run("files.patch", box, patch=f"--- a/{path}\n+++ b/{path}\n{body}")
    with pytest.raises(ToolRefused):
        run("files.patch", box, patch="--- /dev/null\n+++ b/out/new\n@@ -0,0 +1 @@\n+x\n")
    for name, arguments in (
        ("files.move", {"path": "out/victim", "to": "here"}),
        ("files.move", {"path": "x.txt", "to": "out/x.txt"}),
        ("files.delete", {"path": "out/victim"}),
        ("files.mkdir", {"path": "out/folder"}),
    ):
        with pytest.raises(ToolRefused):
            run(name, box, **arguments)
    assert run("files.delete", box, path="out", recursive=True).ok  # the link itself
    assert run("files.delete", box, path="file").ok
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]
    assert (tmp_path / "victim").read_text() == "one\ntwo\n"


def test_a_move_replaces_nothing_and_makes_folders(box: SandboxBox) -> None:
    tool = get("files.move")
    assert "-> a/b/y.txt" in tool.preview({"path": "x.txt", "to": "a/b/y.txt"}, box)
    assert run("files.move", box, path="x.txt", to="a/b/y.txt").ok
    assert tree_of(box) == {"a/b/y.txt": "one\ntwo\n", "gone.txt": "bye\n"}
    taken = run("files.move", box, path="a/b/y.txt", to="gone.txt")
    assert not taken.ok and taken.summary == "gone.txt is there already."
    assert run("files.move", box, path="a", to="z").ok
    assert tree_of(box) == {"z/b/y.txt": "one\ntwo\n", "gone.txt": "bye\n"}
    assert not run("files.move", box, path="missing", to="m").ok
    with pytest.raises(ToolRefused, match="there already"):
        tool.preview({"path": "z", "to": "gone.txt"}, box)
    found = tool.probe({"path": "x.txt", "to": "a/b/y.txt"}, {}, box)
    assert found is None  # it stood there, and is elsewhere now
    assert tool.probe({"path": "a", "to": "z"}, {}, box) is not None
    assert run("files.move", box, path="a", to="z").ok  # the same call again has happened


def test_a_folder_is_deleted_with_all_that_it_holds_when_that_is_said(box: SandboxBox) -> None:
    tree = box.workspace.tree
    assert run("files.mkdir", box, path="deep/er").data["created"] is True
    assert run("files.mkdir", box, path="deep/er").data["created"] is False
    assert run("files.delete", box, path="deep/er").ok
    assert box.run(["sh", "-c", "mkdir -p deep/shut/in && touch deep/shut/in/f deep/.hidden && chmod 0 deep/shut"]).ok
    refused = run("files.delete", box, path="deep")
    assert not refused.ok and "recursive" in refused.summary and (tree / "deep/.hidden").exists()
    assert "deep/ is deleted, with" in get("files.delete").preview({"path": "deep", "recursive": True}, box)
    done = run("files.delete", box, path="deep", recursive=True)
    assert done.ok and not (tree / "deep").exists()
    assert [path.suffix for path in (box.workspace.root / "journal").iterdir() if path.suffix != ".json"] == []
    found = get("files.delete").probe({"path": "deep", "recursive": True}, {}, box)
    assert found is not None and found.summary.startswith("Deleted deep")
    assert not run("files.delete", box, path="never").ok
    assert not run("files.mkdir", box, path="x.txt").ok


def test_what_is_left_of_a_lost_deletion_goes_with_the_next_attempt(
    box: SandboxBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    (box.workspace.tree / "d").mkdir()
    (box.workspace.tree / "d/f").write_text("x")

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("tools.builtin.arranging._deleted", die)
        patched.setattr("tools.builtin.journal.remove_tree", die)
        with pytest.raises(Killed):
            run("files.delete", box, path="d", recursive=True)
    journal = box.workspace.root / "journal"
    assert not (box.workspace.tree / "d").exists() and any(journal.glob("*.taken"))
    done = run("files.delete", box, path="d", recursive=True)
    assert done.ok and done.data["entries"] == 1
    assert not any(journal.glob("*.taken"))


def test_what_other_machinery_runs_raises_the_risk() -> None:
    workflow = "--- /dev/null\n+++ b/.github/workflows/x.yml\n@@ -0,0 +1 @@\n+on: push\n"
    for name, arguments in (
        ("files.patch", {"patch": workflow}),
        ("files.move", {"path": "x", "to": ".github/x"}),
        ("files.delete", {"path": ".github"}),
        ("files.delete", {"path": "src", "recursive": True}),
    ):
        assert registry.get(name).risk(arguments).level is Risk.MEDIUM, name
    assert registry.get("files.patch").risk({"patch": TWO}).level is Risk.LOW
    assert registry.get("files.patch").describe({"patch": TWO}) == "patch x.txt, d/new.sh, gone.txt (+2 -2)"


@pytest.mark.skipif(os.geteuid() != 0, reason="a server that is not root cannot give files away")
def test_the_journal_is_the_servers_own(box: SandboxBox) -> None:
    assert run("files.patch", box, patch=TWO).ok
    tried = box.run(["sh", "-c", f"ls {box.workspace.root}/journal; echo x > {box.workspace.root}/journal/x"])
    assert not tried.ok and list((box.workspace.root / "journal").glob("x")) == []


def test_a_racing_link_leads_no_move_or_deletion_out(workspace: Workspace, tmp_path: Path) -> None:
    """A folder on the way is swapped for a link to the outside, as fast as the machine can, while things are made, moved
    and deleted below it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("secret")
    (outside / "full").mkdir()
    (outside / "full/kept").write_text("secret")
    before = sorted((str(path), path.stat().st_mtime_ns, path.stat().st_ino) for path in outside.rglob("*"))
    tree = workspace.tree
    (tree / "way").mkdir()
    (tree / "link").symlink_to(outside)
    racer = subprocess.Popen([sys.executable, "-c", RACER, str(tree)], stdout=subprocess.PIPE)
    done = {"moved": 0, "taken": 0, "refused": 0}
    deadline = time.monotonic() + 20
    try:
        assert racer.stdout is not None
        assert racer.stdout.readline() == b"ready\n"
        with Beneath(tree) as beneath:
            while min(done.values()) < 50 and time.monotonic() < deadline:
                for name, act in (
                    ("made", lambda: beneath.write("way/file", b"x")),
                    ("made", lambda: beneath.make_folder("way/full/er")),
                    ("moved", lambda: beneath.move("way/file", "way/moved")),
                    ("taken", lambda: beneath.remove_file("way/moved")),
                    ("taken", lambda: beneath.remove_file("way/file")),
                ):
                    try:
                        act()
                        done[name] = done.get(name, 0) + 1
                    except ToolRefused:
                        done["refused"] += 1
                    except NotThere:
                        continue  # it was swapped between two looks
    finally:
        racer.kill()
        racer.communicate()
    assert sorted((str(path), path.stat().st_mtime_ns, path.stat().st_ino) for path in outside.rglob("*")) == before
    assert min(done.values()) >= 50, done
