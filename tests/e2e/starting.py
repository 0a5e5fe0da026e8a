"""Running bin/up's second half to its end, for tests of what it says."""

import subprocess
import sys

from config.devstack.places import REPOSITORY
from tests.stack import clean_environment


def run_up(*arguments: str, timeout_s: float = 60, **environ: str) -> subprocess.CompletedProcess[str]:
    """With exactly the settings in `environ`; for starts that are expected to end."""
    return subprocess.run(
        [sys.executable, "-m", "config.devstack.up", *arguments],
        cwd=REPOSITORY,
        env=clean_environment(**environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def run_down(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "config.devstack.down", *arguments],
        cwd=REPOSITORY,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
