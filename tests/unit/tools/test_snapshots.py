"""Snapshots of a workspace: everything that commands may depend on, cheaply, and never half."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from audit.ids import uuid7
from tools import snapshots, workspaces
from tools.sandbox.identity import identity_for
from tools.snapshots import Keeper, NoSnapshot
from tools.spec import Workspace


@pytest.fixture
def place() -> Iterator[Workspace]:
    made = workspaces.workspace_for(str(uuid7()))
    yield made
    workspaces.remove(made.id)


def work(place: Workspace, step: str, *files: tuple[str, str]) -> None:
    keeper = Keeper(step)
    keeper.open(place)
    for name, text in files:
        (place.root / name).write_text(text)
    keeper.close()


def told(place: Workspace) -> snapshots.History:
    found = snapshots.history(place.id)
    assert found is not None
    return found


def forked(place: Workspace, number: int) -> Workspace:
    name = str(uuid7())
    snapshots.fork(place.id, number, name)
    return workspaces.workspace_for(name)


def heap(place: Workspace) -> set[Path]:
    return {file for file in (place.root / "snapshots" / "heap").rglob("*") if file.is_file()}


def test_a_snapshot_brings_back_files_links_modes_times_and_the_repository(place: Workspace, tmp_path: Path) -> None:
    keeper = Keeper("a")
    keeper.open(place)
    big, odd = os.urandom(3 * 2**20 + 5), os.fsdecode(b"odd \xff\n name")
    (place.tree / "sub" / "empty").mkdir(parents=True)
    (place.tree / "big").write_bytes(big)
    (place.tree / "sub" / odd).write_text("odd")
    (place.tree / "run.sh").write_text("#!/bin/sh\n")
    (place.tree / "run.sh").chmod(0o750)
    os.utime(place.tree / "run.sh", ns=(1, 1_600_000_000_123_456_789))
    (place.tree / "out").symlink_to(tmp_path)
    (place.tree / "sub" / "empty").chmod(0o500)
    (place.tree / ".git").write_text(f"gitdir: {place.git_dir}\n")
    (place.git_dir / "HEAD").write_text("ref: refs/heads/work\n")
    (place.scratch / ".cache").write_text("cached")
    (place.root / "origin.json").write_text("{}")
    keeper.close()
    work(place, "b", ("tree/big", "small"), ("repo.git/HEAD", "ref: refs/heads/other\n"))
    made = forked(place, 1)
    try:
        assert (made.tree / "big").read_bytes() == big
        assert (made.tree / "sub" / odd).read_text() == "odd"
        status = (made.tree / "run.sh").stat()
        assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o750, 1_600_000_000_123_456_789)
        assert (made.tree / "out").is_symlink() and os.readlink(made.tree / "out") == str(tmp_path)
        assert (made.tree / "sub" / "empty").stat().st_mode & 0o777 == 0o500
        assert (made.tree / ".git").read_text() == f"gitdir: {made.git_dir}\n"
        assert (made.git_dir / "HEAD").read_text() == "ref: refs/heads/work\n"
        assert (made.scratch / ".cache").read_text() == "cached"
        assert (made.root / "origin.json").read_text() == "{}"
        owner = identity_for(made.id).uid
        assert {path.lstat().st_uid for part in ("tree", "repo.git") for path in (made.root / part).rglob("*")} == {
            owner
        }
        workspaces.remove(place.id)  # the fork needs nothing of it
        again = forked(made, 1)
        assert (again.tree / "big").read_bytes() == big
        workspaces.remove(again.id)
    finally:
        workspaces.remove(made.id)


def test_a_step_that_wrote_nothing_costs_no_room_and_what_is_the_same_is_kept_once(place: Workspace) -> None:
    work(place, "a", ("tree/one", "the same"), ("tree/two", "the same"))
    os.utime(place.tree / "one", ns=(1, 1))
    work(place, "b")
    work(place, "c")  # by now every file is old enough to be told from its times alone
    before = heap(place)
    work(place, "d")
    assert heap(place) == before
    assert len({file.read_bytes() for file in before}) == len(before)
    assert sum(file.read_bytes() == b"the same" for file in before) == 1
    assert told(place).latest == 4


def test_no_command_can_reach_the_snapshots_where_the_server_is_root(place: Workspace) -> None:
    work(place, "a", ("tree/one", "one"))
    assert (place.root / "snapshots").stat().st_mode & 0o777 == 0o700
    assert (place.root / "snapshots").stat().st_uid == os.geteuid()


def test_what_a_lost_attempt_left_is_kept_when_the_next_one_begins(place: Workspace) -> None:
    work(place, "a", ("tree/file", "a"))
    lost = Keeper("b")
    lost.open(place)
    (place.tree / "file").write_text("half of b")  # and the worker dies
    assert told(place).busy == {"b"}
    assert told(place).end_of("b") is None
    work(place, "c", ("tree/file", "c"))
    history = told(place)
    assert history.began == {"a": 0, "b": 1, "c": 2}
    assert history.end_of("b") == 2
    made = forked(place, 2)
    assert (made.tree / "file").read_text() == "half of b"
    workspaces.remove(made.id)


def test_a_second_attempt_began_where_the_first_one_did(place: Workspace) -> None:
    work(place, "a", ("tree/file", "a"))
    work(place, "b", ("tree/file", "b failed"))
    work(place, "b", ("tree/file", "b"))
    assert (told(place).began["b"], told(place).end_of("b")) == (1, 3)
    work(place, "a", ("tree/file", "a again"))
    work(place, "b", ("tree/file", "b again"))
    assert told(place).began["b"] == 4


def test_too_much_is_told_and_hurts_nobody(place: Workspace, settings: Settings) -> None:
    settings.WORKSPACE_SNAPSHOT_MB = 1
    work(place, "a", ("tree/file", "a"))
    work(place, "b", ("tree/large", "x" * (2**20 + 1)))
    history = told(place)
    assert (history.snapshots[1].missing, history.snapshots[2].missing) == ("", "it holds more than 1 MiB")
    with pytest.raises(NoSnapshot, match="more than 1 MiB"):
        forked(place, 2)
    settings.WORKSPACE_SNAPSHOTS = 0
    work(place, "c")
    assert "switched off" in told(place).snapshots[3].missing


def test_the_oldest_make_room_for_the_newest(place: Workspace, settings: Settings) -> None:
    settings.WORKSPACE_SNAPSHOT_MB = 1
    for number in range(1, 7):
        text = str(number) * 300_000
        work(place, f"s{number}", ("tree/file", text))
    history = told(place)
    assert history.latest == 6 and not history.whole
    assert not any(one.missing for one in history.snapshots.values())
    assert 2 <= len(history.snapshots) <= 3
    assert sum(file.stat().st_size for file in heap(place)) < 2**20
    with pytest.raises(NoSnapshot, match="no longer kept"):
        forked(place, 1)
    settings.WORKSPACE_SNAPSHOTS = 2
    for number in range(7, 10):
        work(place, f"s{number}", ("tree/small", str(number)))
    assert len(told(place).snapshots) <= 2


def test_a_damaged_part_is_noticed_and_nothing_is_left_of_the_fork(place: Workspace) -> None:
    work(place, "a", ("tree/file", "what it was"))
    next(file for file in heap(place) if file.read_bytes() == b"what it was").write_text("WHAT IT WAS")
    there = set(workspaces.there())
    with pytest.raises(NoSnapshot, match="damaged"):
        forked(place, 1)
    assert set(workspaces.there()) == there


def test_steps_side_by_side_take_turns(place: Workspace) -> None:
    def one(number: int) -> None:
        work(place, f"s{number}", (f"tree/{number}", str(number)))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    history = told(place)
    assert not history.busy
    last = max(number for number, one in history.snapshots.items() if one.step)
    made = forked(place, last)
    assert {path.name for path in made.tree.iterdir()} == {str(number) for number in range(8)}
    workspaces.remove(made.id)
