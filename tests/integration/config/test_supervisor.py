"""The supervisor with real processes: nothing it started outlives it, however it ends."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.devstack import runfile
from config.devstack.linux import started_at
from tests.stack import wait_until

ME = "tests.integration.config.programs"


class Supervised:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", ME, "supervise", str(folder)],
            stdout=(folder / "out").open("wb"),
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    def pids(self) -> dict[str, int]:
        running = runfile.read(self.folder)
        return {name: pid for name, (pid, _) in running.processes.items()} if running else {}

    def log(self, name: str) -> str:
        path = self.folder / "logs" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def said(self) -> str:
        return (self.folder / "out").read_text()

    def everyone(self) -> list[int]:
        """All pids that there are: the programs, the server and the grandchildren."""
        grandchildren = (self.folder / "grandchildren").read_text().split()
        return [*self.pids().values(), *map(int, grandchildren)]


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    running = Supervised(tmp_path)
    wait_until(lambda: (tmp_path / "grandchildren").exists(), why=f"programs run; {running.said()}")
    wait_until(lambda: "stubborn ready" in running.log("stubborn") and {"patient", "redis"} <= set(running.pids()))
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def gone(pids: list[int]) -> bool:
    return all(started_at(pid) is None for pid in pids)


def test_programs_get_their_arguments_environment_and_own_session(supervised: Supervised) -> None:
    wait_until(lambda: "descriptors" in supervised.log("patient"))
    assert "patient colour=green argv=['patient'] session=True" in supervised.log("patient")


def test_programs_inherit_no_descriptor(supervised: Supervised) -> None:
    wait_until(lambda: "descriptors" in supervised.log("patient"))
    assert "descriptors=[0, 1, 2, 3]" in supervised.log("patient")  # 3: the listing itself


def test_sigterm_ends_everything_also_what_ignores_it_and_what_left_its_session(supervised: Supervised) -> None:
    everyone = supervised.everyone()
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.process.wait(60) == 0
    assert gone(everyone)
    assert not (supervised.folder / "run.json").exists()


def test_a_second_ctrl_c_ends_it_at_once(supervised: Supervised) -> None:
    everyone = supervised.everyone()
    supervised.process.send_signal(signal.SIGINT)
    wait_until(lambda: (running := runfile.read(supervised.folder)) is not None and running.state == "stopping")
    supervised.process.send_signal(signal.SIGINT)
    supervised.process.wait(5)
    assert gone(everyone)


def test_sigkill_of_the_supervisor_leaves_no_program_and_no_server(supervised: Supervised) -> None:
    ours = list(supervised.pids().values())
    supervised.process.kill()
    supervised.process.wait()
    wait_until(lambda: gone(ours), why="the kernel ended what the supervisor had started")
    for pid in map(int, (supervised.folder / "grandchildren").read_text().split()):
        os.kill(pid, signal.SIGKILL)  # no kernel rule ends the children of a program that makes daemons


def test_a_killed_program_is_started_again(supervised: Supervised) -> None:
    before = supervised.pids()["patient"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: supervised.pids().get("patient", before) != before)
    wait_until(lambda: "patient was killed (SIGKILL) and starts again" in supervised.said())


def test_a_killed_redis_is_started_again_on_its_port(supervised: Supervised) -> None:
    before = supervised.pids()["redis"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: supervised.pids().get("redis", before) != before)


def test_a_failing_program_is_started_again_ever_more_seldom_and_its_errors_are_shown(supervised: Supervised) -> None:
    wait_until(lambda: len(re.findall("failing ended", supervised.said())) >= 3)
    delays = [
        float(delay) for delay in re.findall(r"failing ended \(exit code 3\) .* in ([\d.]+) s", supervised.said())
    ]
    assert delays[:3] == [0.25, 0.5, 1.0]
    assert "failing: ERROR this cannot work" in supervised.said()


def test_no_zombies_are_kept(supervised: Supervised) -> None:
    far = int((supervised.folder / "grandchildren").read_text().split()[1])
    os.kill(supervised.pids()["parent"], signal.SIGKILL)  # its daemon comes to the supervisor
    os.kill(far, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{far}").exists(), why="the supervisor took its exit code")
