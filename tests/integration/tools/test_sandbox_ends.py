"""However a command ends, nothing of it stays: no process, no descriptor; and what it said until then is kept."""

import os
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.engine.leases import Held
from tests.integration.tools.conftest import Runner
from tests.integration.tools.test_sandbox_holds import until
from tests.integration.tools.trial import commands_with, confined, place, run_python
from tools.sandbox import probe
from tools.sandbox.identity import Identity
from tools.sandbox.process import Bounds, Outcome

# Says something, then daemonises in every way, deaf to SIGTERM, with the pipes held, and storms.
FAMILY = b"""
import ctypes, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.write(1, b"said before\\n")
os.write(2, b"warned before\\n")
libc = ctypes.CDLL(None)
for _ in range(2):
    if os.fork() == 0:
        libc.daemon(1, 1)
        while True:
            time.sleep(1)
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        while True:
            try:
                if os.fork():
                    os._exit(0)
            except OSError:
                pass
os.write(1, b"ready\\n")
if sys.argv[2] == "go":
    os._exit(0)
while True:
    os.write(1, b"flood" * 10000) if sys.argv[2] == "flood" else time.sleep(1)
"""
ENDS = {"by itself": "go", "timeout": "stay", "cancelled": "stay", "output_limit": "flood"}


@pytest.fixture
def ground(places: Callable[[Runner], Path]) -> tuple[Path, Identity]:
    folder = places(Runner("server", "", {})) / uuid.uuid4().hex
    folder.mkdir()
    folder.chmod(0o711)
    return place(folder, "inside")


def descriptors() -> set[str]:
    return {f"{name} {os.readlink(f'/proc/self/fd/{name}')}" for name in os.listdir("/proc/self/fd") if _there(name)}


def _there(name: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{name}")


@pytest.mark.parametrize("how", ENDS)
def test_a_family_that_will_not_go_is_gone(how: str, tier: str, ground: tuple[Path, Identity]) -> None:
    inside, identity = ground
    mark = f"mark-{uuid.uuid4()}"
    seen: list[str] = []
    before = descriptors()
    ended = run_python(
        FAMILY,
        mark,
        ENDS[how],
        inside=inside,
        confinement=confined(tier, identity, write=inside, processes=40),
        bounds=Bounds(
            timeout_s=1.0 if how == "timeout" else 60.0,
            output_head_bytes=1000,
            output_tail_bytes=1000,
            output_kill_bytes=1 << 20,
        ),
        on_output=lambda _, text: seen.append(text),
        cancelled=lambda: how == "cancelled" and "ready" in "".join(seen),
    )
    assert commands_with(mark) == []
    assert ended.clean
    assert ended.ended_by == ("" if how == "by itself" else how)
    assert descriptors() == before
    if how != "timeout":  # which may come before the first word
        assert ended.stdout.startswith("said before\n")
        assert ended.stderr.startswith("warned before\n")


def test_a_worker_that_hangs_cannot_keep_a_command_alive(tier: str, ground: tuple[Path, Identity]) -> None:
    """The lease of its step may be lost meanwhile, and another worker may have begun the same."""
    inside, identity = ground
    mark = f"mark-{uuid.uuid4()}"
    hangs, go_on = threading.Event(), threading.Event()
    ended: list[Outcome] = []

    def hang(stream: str, text: str) -> None:
        hangs.set()
        assert go_on.wait(60)

    def work() -> None:
        confinement = confined(tier, identity, write=inside)
        bounds = Bounds(
            timeout_s=600.0, output_head_bytes=1000, output_tail_bytes=1000, output_kill_bytes=1 << 20, leash_s=2.0
        )
        ended.append(
            run_python(FAMILY, mark, "stay", inside=inside, confinement=confinement, bounds=bounds, on_output=hang)
        )

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert until(lambda: hangs.is_set() or not worker.is_alive(), 60.0)
        assert until(lambda: not commands_with(mark), 30.0), commands_with(mark)
    finally:
        go_on.set()
        worker.join(60)
    assert (ended[0].ended_by, ended[0].clean) == ("cancelled", True)


@pytest.mark.parametrize("how", ["taken by another", "not renewed for a whole lease"])
def test_a_lost_lease_ends_the_whole_family(how: str, ground: tuple[Path, Identity]) -> None:
    inside, identity = ground
    mark = f"mark-{uuid.uuid4()}"
    held = Held(uuid.uuid4(), 1)

    def lose(stream: str, text: str) -> None:
        if how == "taken by another":
            held.taken = True
        else:
            held.renewed_at -= 10_000

    ended = run_python(
        FAMILY,
        mark,
        "stay",
        inside=inside,
        confinement=confined(probe.best(), identity, write=inside),
        on_output=lose,
        cancelled=held.stop_requested,
    )
    assert (ended.ended_by, ended.clean) == ("cancelled", True)
    assert commands_with(mark) == []
    assert ended.stdout.startswith("said before\n")
