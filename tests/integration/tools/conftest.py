"""Places for sandbox tests: reachable by every user, and who runs the trial."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.tools import trial
from tools.sandbox import probe

TIERS = probe.TIERS
SYSTEM_PYTHON = "/usr/bin/python3"
REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Runner:
    """Who runs a trial: the interpreter, and what subprocess needs to become that user."""

    name: str
    python: str
    become: dict[str, object]

    def start(self, *arguments: str, program: Path = Path(trial.__file__), **more: object) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.python, "-B", str(program), *arguments],
            env={"PATH": os.environ["PATH"], "SECRET": "SECRET"},
            cwd="/",
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **{**self.become, **more},
        )


def need(tier: str) -> str:
    """The tier's name; the test is skipped where it does not hold, with the reason."""
    found = probe.report(tier)
    if not found.works:
        pytest.skip(f"{tier}: {found.why}")
    return tier


@pytest.fixture(params=TIERS)
def tier(request: pytest.FixtureRequest) -> str:
    return need(request.param)


@pytest.fixture
def forced_tier(tier: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SANDBOX_TIER", tier)
    return tier


@pytest.fixture(scope="session")
def places() -> Iterator[Callable[[Runner], Path]]:
    """A folder of the runner's own, below one that everybody can reach; not below /tmp, which a tier hides."""
    base = Path(
        tempfile.mkdtemp(prefix="countersign-trials-", dir="/var/tmp" if os.access("/var/tmp", os.W_OK) else None)
    )
    base.chmod(0o755)

    def make(runner: Runner) -> Path:
        folder = base / runner.name
        if not folder.exists():
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)
            if "user" in runner.become:
                os.chown(folder, int(str(runner.become["user"])), -1)
        return folder

    yield make
    shutil.rmtree(base, ignore_errors=True)


def _nobody() -> Runner:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; the tests run unprivileged as it is")
    become: dict[str, object] = {"user": 65534, "group": 65534, "extra_groups": []}
    trial_ = [SYSTEM_PYTHON, "-B", "-c", "import sys; sys.path.insert(0, sys.argv[1]); import tools.sandbox.launcher"]
    try:
        ended = subprocess.run(
            [*trial_, str(REPOSITORY)], cwd="/", capture_output=True, text=True, check=False, user=65534, group=65534
        )
    except OSError as error:
        pytest.skip(f"{SYSTEM_PYTHON}: {error}")
    if ended.returncode:
        pytest.skip(f"an unprivileged user cannot run the launcher here: {ended.stderr[-200:]}")
    return Runner("nobody", SYSTEM_PYTHON, become)


@pytest.fixture(scope="session", params=["server", "nobody"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """The user that the tests run as; and, where that is root, one who is not."""
    yield _nobody() if request.param == "nobody" else Runner("server", sys.executable, {})
