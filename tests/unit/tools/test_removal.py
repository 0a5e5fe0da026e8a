"""Removing what commands left, as the server that is root and as one that is not."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.removal import remove_tree

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="countersign-removal-", dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o777)
        yield place


def as_nobody(what: str, folder: Path) -> int:
    """Runs it in a child that gave root up (where there is root to give up); its exit code."""
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            {"make": _make, "remove": remove_tree}[what](folder / "tree")
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _make(tree: Path) -> None:
    """Closed folders within closed folders, a link out, a file that may not be written."""
    below = tree / "a" / "b" / "c"
    below.mkdir(parents=True)
    (below / "file").write_text("x")
    (below / "file").chmod(0)
    (tree / "out").symlink_to(tree.parent)
    (tree / "beside" / "deep").mkdir(parents=True)
    for closed in (below, below.parent, tree / "a", tree / "beside" / "deep", tree / "beside", tree):
        closed.chmod(0)


def test_nested_closed_folders_go_for_whoever_owns_them(folder: Path) -> None:
    (folder / "kept").write_text("kept")
    assert as_nobody("make", folder) == 0
    assert as_nobody("remove", folder) == 0
    assert sorted(os.listdir(folder)) == ["kept"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_what_belongs_to_somebody_else_stays_and_is_told(folder: Path) -> None:
    foreign = folder / "tree" / "foreign"
    foreign.mkdir(parents=True)
    (foreign / "file").touch()
    (folder / "tree").chmod(0o777)
    assert as_nobody("remove", folder) == 1
    assert (foreign / "file").exists()
