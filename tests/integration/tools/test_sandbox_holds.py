"""The sandbox's promises, each with an attack program, for each tier, as root and as somebody."""

import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.tools.attacks import ATTACKS
from tests.integration.tools.conftest import Runner
from tools.sandbox import probe

Trial = Callable[[Runner, str], dict]


@pytest.fixture(scope="module")
def trials(places: Callable[[Runner], Path]) -> Trial:
    """All attacks of one user in one tier, run once."""
    done: dict[tuple[str, str], dict] = {}

    def of(runner: Runner, tier: str) -> dict:
        if (runner.name, tier) not in done:
            started = runner.start(tier, str(places(runner)))
            out, said = started.communicate(timeout=180)
            assert started.returncode == 0, said
            done[runner.name, tier] = json.loads(out)
        return done[runner.name, tier]

    return of


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_an_attack_does_not_get_out(attack: str, tier: str, runner: Runner, trials: Trial) -> None:
    if attack == "attributes" and tier == "ll" and (runner.name == "nobody" or os.geteuid() != 0):
        pytest.skip("one user for all in this tier: the probe tells of it (see the test below)")
    came_of_it = trials(runner, tier)[attack]
    assert came_of_it["through"], came_of_it
    assert came_of_it["escaped"] == [], came_of_it["said"]
    assert came_of_it["changed"] == []
    assert came_of_it["victim_lives"]
    assert came_of_it["clean"]


def test_what_the_weakest_tier_cannot_do_is_told() -> None:
    report = probe.report("ll")
    if not report.works:
        pytest.skip(report.why)
    told = "can change modes and times of its files" in report.why
    assert told == (os.geteuid() != 0)


def test_processes_and_memory_are_bounded_whoever_runs_it(
    tier: str, runner: Runner, places: Callable[[Runner], Path]
) -> None:
    out, said = runner.start(tier, str(places(runner)), "bounds").communicate(timeout=60)
    found = json.loads(out or "{}")
    assert found, said
    assert 20 <= found["forks"] <= 40
    assert (found["memory"], found["clean"]) == ("memory", True)


def test_a_worker_killed_outright_leaves_no_process(
    tier: str, runner: Runner, places: Callable[[Runner], Path]
) -> None:
    mark = f"mark-{uuid.uuid4()}"
    worker = runner.start(tier, str(places(runner)), "hold", mark)
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        assert commands_with(mark)
    finally:
        worker.kill()
        worker.communicate()
    assert until(lambda: not commands_with(mark), 5.0), commands_with(mark)


@pytest.mark.parametrize("tier", ["bwrap", "ns"])
def test_a_supervisor_killed_outright_leaves_no_process(
    tier: str, runner: Runner, places: Callable[[Runner], Path]
) -> None:
    if not probe.report(tier).works:
        pytest.skip(probe.report(tier).why)
    mark = f"mark-{uuid.uuid4()}"
    worker = runner.start(tier, str(places(runner)), "hold", mark)
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        for launcher in launchers_below(worker.pid):
            os.kill(launcher, 9)
        assert until(lambda: not commands_with(mark), 5.0), commands_with(mark)
    finally:
        worker.kill()
        worker.communicate()


def commands_with(mark: str) -> list[str]:
    """Command lines on this machine that hold the mark, without the worker's own."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if mark in line and "trial.py" not in line and state != "Z":
                found.append(line)
    return found


def launchers_below(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
