"""The sandbox's promises, each with an attack program, for each tier, as root and as somebody."""

import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.tools.attacks import ATTACKS, PROMISES
from tests.integration.tools.attacks.common import PROMISE_OF
from tests.integration.tools.attacks.gaps import gap
from tests.integration.tools.conftest import Runner
from tests.integration.tools.trial import UNFIT_FOR_FREEDOM, commands_with, confined, run_python
from tools.sandbox import probe
from tools.sandbox.identity import Identity
from tools.sandbox.process import SetupFailed

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
    came_of_it = trials(runner, tier)[attack]
    assert came_of_it["through"], came_of_it
    assert came_of_it["clean"], came_of_it
    assert came_of_it["left"] == []
    assert came_of_it["arrived"] == []
    assert came_of_it["victim_lives"]
    if gap(attack, tier, own_user=runner.name == "server" and os.geteuid() == 0):
        return
    assert came_of_it["escaped"] == [], came_of_it["said"]
    assert came_of_it["changed"] == []


def test_every_promise_has_its_attack() -> None:
    tried = {PROMISE_OF[name] for name in ATTACKS}
    assert set(PROMISES) - tried == {"processes, memory, files, processor and output are bounded"}


def test_every_attack_gets_out_where_there_is_no_sandbox(places: Callable[[Runner], Path]) -> None:
    """An attack that cannot succeed shows nothing."""
    if os.geteuid() != 0:
        pytest.skip("only root can run them as somebody whom they cannot harm")
    if "Seccomp:\t0" not in Path("/proc/self/status").read_text():
        pytest.skip("what runs the tests filters system calls itself")
    server = Runner("server", sys.executable, {})
    out, said = server.start("none", str(places(server)), "free").communicate(timeout=180)
    assert out, said
    assert set(ATTACKS) - UNFIT_FOR_FREEDOM - set(json.loads(out)) == set()


def test_the_page_lists_every_attack_and_nothing_else() -> None:
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "sandbox.md").read_text()
    listed = {
        line.split("|")[2].strip() for line in page.splitlines() if line.startswith(tuple(f"| {p} |" for p in PROMISES))
    }
    assert {name.replace("_", " ") for name in ATTACKS} <= listed


def test_commands_never_run_as_root(tier: str, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("the server is not root")
    inside = tmp_path / "inside"
    inside.mkdir()
    for identity in (Identity(0, 0), Identity(1000, 0), Identity(0, 1000)):
        with pytest.raises(SetupFailed, match="never run as root"):
            run_python(b"print('ran')", inside=inside, confinement=confined(tier, identity, write=inside))


def test_what_the_weakest_tier_cannot_do_is_told() -> None:
    report = probe.report("ll")
    if not report.works:
        pytest.skip(report.why)
    told = "can change modes and times of its files" in report.why
    assert told == (os.geteuid() != 0)


def test_what_a_command_uses_is_bounded_whoever_runs_it(
    tier: str, runner: Runner, places: Callable[[Runner], Path]
) -> None:
    out, said = runner.start(tier, str(places(runner)), "bounds").communicate(timeout=60)
    found = json.loads(out or "{}")
    assert found, said
    assert [what for what in found.items() if what[1]] == []


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
    assert until(lambda: not commands_with(mark), 30.0), commands_with(mark)


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
        assert until(lambda: not commands_with(mark), 30.0), commands_with(mark)
    finally:
        worker.kill()
        worker.communicate()


def launchers_below(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
