"""`bin/down`: stops the stack that runs in a data folder. Only processes that its run file names are touched."""

import argparse
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from config.devstack import runfile
from config.devstack.console import complain, say
from config.devstack.places import data_folder

STOP_TIMEOUT_S = 60.0
KILL_TIMEOUT_S = 10.0


def main(arguments: list[str]) -> int:
    """Exit code: 0 nothing runs (any more), 2 it could not be stopped."""
    parser = argparse.ArgumentParser(prog="bin/down", description="Stops what bin/up --detach started.")
    parser.add_argument("--data-dir", default="", metavar="DIR", help="the folder that bin/up was given (.data)")
    given = parser.parse_args(arguments).data_dir
    folder, _ = data_folder(given or os.environ.get("COUNTERSIGN_DATA_DIR"))
    running = runfile.read(folder)
    if running is None:
        say(f"  Nothing runs with the data folder {folder}.")
        return 0
    if running.alive:
        os.kill(running.pid, signal.SIGTERM)
        if not _ended(folder, running, STOP_TIMEOUT_S):
            say("  It does not end by itself: killing it.")
    left = [(pid, at) for pid, at in running.processes.values()]
    left += [(running.pid, running.started_at)]
    for pid, at in left:
        if runfile.same_process(pid, at):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + KILL_TIMEOUT_S
    while any(runfile.same_process(pid, at) for pid, at in left):
        if time.monotonic() > deadline:
            complain(f"Some processes of {folder} could not be ended: {left}")
            return 2
        time.sleep(0.05)
    runfile.remove(folder)
    say("  Stopped.")
    return 0


def _ended(folder: Path, running: runfile.Running, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not running.alive:
            return True
        time.sleep(0.05)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
