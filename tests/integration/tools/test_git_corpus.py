"""The corpus of hostile repositories, with the real git: what is refused, and what does no harm.

Each program that a case plants leaves a mark with the case's name. What is harmless is planted all at once, since it must
stay so in company.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.git import cases
from tests.integration.tools.git_support import Door, Remote, make_remote, plain_git
from tools.errors import ToolFailed, ToolRefused
from tools.spec import Workspace

pytestmark = pytest.mark.django_db

CASES = cases("repositories")
LONG = "x" * 3000


def planted(*where: str, decided: str) -> list[dict[str, Any]]:
    found = [case for case in CASES if case["plant"] in where]
    if decided == "declined":
        return [case for case in found if case["decided"] not in ("refused", "harmless")]
    return [case for case in found if case["decided"] == decided]


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return make_remote(tmp_path)


@pytest.fixture
def door(remote: Remote) -> Door:
    door = Door()
    door.ok("workspace.prepare", url=str(remote.path), branch="main")
    return door


class Ground:
    """Where cases are planted. `run` of a case is a script of its own; its mark is looked for wherever it could be left."""

    def __init__(self, folder: Path, place: Workspace | None = None) -> None:
        self.folder = folder / "marks"  # what runs as the server itself reaches it
        self.folder.mkdir()
        self.place = place

    def filled(self, case: dict[str, Any], text: str) -> str:
        places = [self.folder]
        if self.place is not None:
            places += [self.place.tree, self.place.git_dir, self.place.scratch]
        command = "; ".join(f"touch {place}/MARK-{case['id']}" for place in places)
        script = (self.folder if self.place is None else self.place.scratch) / f"{case['id']}.sh"
        script.write_text(f"#!/bin/sh\n{command}\ncat\n")
        script.chmod(0o755)
        words = {"run": str(script), "command": command, "long": LONG, "sha": "0" * 40, "tree": str(places[-1])}
        for name, value in words.items():
            text = text.replace("{" + name + "}", value)
        return text

    def marks(self) -> list[Path]:
        roots = [self.folder, *([self.place.root] if self.place is not None else [])]
        return [path for root in roots for path in root.rglob("MARK-*")]


def put(door: Door, path: Path, content: str, mode: int = 0o644) -> None:
    owner = door.workspace.tree.stat()
    for folder in reversed(path.parents):
        if door.workspace.root in folder.parents and not folder.exists():
            folder.mkdir()
            os.chown(folder, owner.st_uid, owner.st_gid)
    with path.open("a") as file:
        file.write(content)
    path.chmod(mode)
    os.chown(path, owner.st_uid, owner.st_gid)


@contextmanager
def in_place(door: Door, ground: Ground, case: dict[str, Any]) -> Iterator[None]:
    """Plants a case in the git directory and takes it away again."""
    git_dir = door.workspace.git_dir
    path = git_dir / ("config" if case["plant"] == "config" else case["path"])
    aside = path.with_name(f"{path.name}.aside")
    if "link" in case:
        path.rename(aside)
        path.symlink_to(ground.filled(case, case["link"]))
    elif path.exists():
        aside.write_bytes(path.read_bytes())
        put(door, path, "\n" + ground.filled(case, case["text"]) + "\n")
    else:
        put(door, path, ground.filled(case, case["text"]))
    yield
    path.unlink()
    if aside.exists():
        aside.rename(path)


def work(door: Door) -> None:
    door.ok("git.status")
    door.ok("git.checkout", ref="topic", create=True)
    door.commit({"src/app.py": "print('two')\n"}, "Say two")
    door.ok("git.diff", from_ref="HEAD~1")
    door.ok("git.log")
    door.ok("git.checkout", ref="main")
    door.commit({"b.txt": "b\n"}, "Add b")
    door.ok("git.merge", ref="topic")
    door.ok("git.revert", ref="topic")
    door.write("b.txt", "changed\n")
    door.ok("git.stash", action="save")
    door.ok("git.stash", action="pop")
    door.ok("git.reset", mode="hard")
    door.ok("git.fetch")
    door.preview("git.push", branch="main")
    door.ok("git.push", branch="main")


def test_what_is_planted_in_a_repository_is_refused(door: Door, tmp_path: Path):
    ground = Ground(tmp_path, door.workspace)
    for case in planted("config", "git", decided="refused"):
        with in_place(door, ground, case):
            for tool, arguments in (("git.status", {}), ("git.add", {"paths": ["."]}), ("git.reset", {"mode": "hard"})):
                with pytest.raises((ToolRefused, ToolFailed)):
                    pytest.fail(f"{case['id']}: {door.run(tool, **arguments).summary}")
    door.ok("git.status")
    assert ground.marks() == []


def test_what_is_harmless_in_a_workspace_runs_nothing(door: Door, tmp_path: Path):
    ground = Ground(tmp_path, door.workspace)
    for case in planted("config", "git", "tree", decided="harmless"):
        if case["plant"] == "config":
            put(door, door.workspace.git_dir / "config", "\n" + ground.filled(case, case["text"]) + "\n")
        elif case["plant"] == "git":
            for name in case.get("hooks", [""]):
                put(door, door.workspace.git_dir / case["path"] / name, ground.filled(case, case["text"]), 0o755)
        else:
            if "text" in case:
                (door.workspace.tree / case["path"]).unlink()
            for name, content in case.get("files", [[case.get("path"), case.get("text", "")]]):
                put(door, door.workspace.tree / name, ground.filled(case, content), 0o755)
    work(door)
    door.ok("git.add", paths=["build.sh", ".mailmap", ".gitattributes", ".lfsconfig"])
    assert "Ada" in door.ok("git.log", ref="origin/main~1").text  # as it was written, not as .mailmap has it
    assert ground.marks() == []


def test_what_cannot_be_added_says_why(door: Door, tmp_path: Path):
    ground = Ground(tmp_path, door.workspace)
    for case in planted("tree", decided="declined"):
        for name, content in case["files"]:
            put(door, door.workspace.tree / name, ground.filled(case, content))
        result = door.run("git.add", paths=["."])
        assert (case["id"], result.ok, result.data.get("code")) == (case["id"], False, case["decided"])
        door.ok("git.clean", folders=True)
        for folder in (path for path in door.workspace.tree.rglob(".git") if path.is_dir()):
            folder.rename(door.workspace.scratch / case["id"])
    assert ground.marks() == []


def made_of(remote: Remote, entries: list[tuple[str, str]]) -> str:
    """A commit whose tree is made object by object, so that no rule of git's own stands in the way; gives its id."""
    folders: dict[str, dict[str, str]] = {"": {}}
    write: Callable[[str], str] = lambda text: plain_git(remote.path, "hash-object", "-w", "--stdin", stdin=text)  # noqa: E731
    for path, content in entries:
        folder, _, name = path.rpartition("/")
        parts = folder.split("/") if folder else []
        for depth in range(len(parts)):
            folders.setdefault("/".join(parts[: depth + 1]), {})
        kind, _, target = content.partition(":")
        if content == "module":
            line = f"160000 commit {remote.sha('main')}"
        elif kind == "link":
            line = f"120000 blob {write(target)}"
        else:
            line = f"100644 blob {write(content)}"
        folders[folder][name] = line
    for folder in sorted(folders, key=lambda one: one.count("/") + bool(one), reverse=True):
        lines = "".join(f"{line}\t{name}\n" for name, line in folders[folder].items())
        tree = plain_git(remote.path, "mktree", "--missing", stdin=lines)
        if not folder:
            return plain_git(remote.path, "commit-tree", tree, "-p", remote.sha("main"), "-m", "Evil")
        parent, _, name = folder.rpartition("/")
        folders[parent][name] = f"040000 tree {tree}"
    raise AssertionError


def test_what_a_remote_holds_is_refused(remote: Remote, tmp_path: Path):
    ground = Ground(tmp_path)
    before = remote.sha("main")
    for case in planted("remote", decided="refused"):
        sha = made_of(remote, [(path, ground.filled(case, content)) for path, content in case["tree"]])
        plain_git(remote.path, "update-ref", "refs/heads/main", sha)
        door = Door()
        with pytest.raises((ToolRefused, ToolFailed)):
            pytest.fail(f"{case['id']}: {door.run('workspace.prepare', url=str(remote.path)).summary}")
        assert [path.name for path in door.workspace.tree.iterdir()] == []
        plain_git(remote.path, "update-ref", "refs/heads/main", before)
    assert ground.marks() == []


def test_what_is_harmless_at_a_remote_runs_nothing(remote: Remote, tmp_path: Path):
    door = Door()
    ground = Ground(tmp_path, door.workspace)
    entries: dict[str, str] = {"README.md": "hello\n", "src/app.py": "print('one')\n"}
    for case in planted("remote", decided="harmless"):
        for path, content in case["tree"]:
            joined = path in (".gitmodules", ".gitattributes")
            entries[path] = (entries.get(path, "") if joined else "") + ground.filled(case, content)
    for case in planted("remote-git", decided="harmless"):
        path = remote.path / case["path"]
        with path.open("a") as file:
            file.write(ground.filled(case, case["text"]) + "\n")
        path.chmod(0o755)
    plain_git(remote.path, "update-ref", "refs/heads/main", made_of(remote, list(entries.items())))
    cloned = door.ok("workspace.prepare", url=str(remote.path), branch="main")
    assert set(cloned.data["submodules"]) == {"x", "A/modules/x"} and cloned.data["lfs"] == 1
    assert "Submodules are not fetched" in cloned.text and "Git LFS" in cloned.text
    assert (door.workspace.tree / "data").is_symlink() and not (
        door.workspace.git_dir / "hooks" / "post-checkout"
    ).exists()
    work(door)
    assert ground.marks() == []
