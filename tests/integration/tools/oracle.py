"""Runs command lines in one tier and lets a tracer write down what they do: `strace … python oracle.py TIER FOLDER CASES`.

CASES is a JSON file: a list of {"text", "folder"}. One sandboxed run takes them all, one after the other; between them
it opens a file that is not there, whose name stands in the trace.
"""

import json
import os
import sys
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tools.sandbox.environment import base_environment, interpreter_paths
from tools.sandbox.identity import identity_for
from tools.sandbox.output import Unfiltered
from tools.sandbox.process import Bounds, Confinement, run

MARK = "/oracle-mark-"
SCRATCH = "scratch"
BOUNDS = Bounds(timeout_s=120.0, output_head_bytes=8192, output_tail_bytes=8192, output_kill_bytes=64 << 20)
DRIVER = b"""
import json, os, signal, subprocess, sys, time
for number, case in enumerate(json.loads(sys.argv[1])):
    os.chdir(case["folder"])
    try:
        os.open("%s%%d" %% number, os.O_RDONLY)
    except OSError:
        pass
    running = subprocess.Popen(["/bin/sh", "-c", case["text"]], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        running.wait(5)
    except subprocess.TimeoutExpired:
        pass
    until = time.monotonic() + 5
    try:  # what it leaves behind would be taken for the next one's
        while time.monotonic() < until:
            os.killpg(running.pid, signal.SIGKILL)
            running.poll()
            time.sleep(0.01)
    except OSError:
        pass
try:
    os.open("%send", os.O_RDONLY)
except OSError:
    print("done")
""" % (MARK.encode(), MARK.encode())


def main() -> None:
    tier, folder, cases = sys.argv[1], Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text())
    identity = identity_for(folder.name)
    if identity.dropped:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, identity.uid, identity.gid, follow_symlinks=False)
    ended = run(
        ["python3", "-I", "-S", "-", json.dumps(cases)],
        cwd=str(folder),
        env=base_environment(home=folder / SCRATCH, scratch=folder / SCRATCH),
        stdin=DRIVER,
        confinement=Confinement(
            tier=tier,
            identity=identity,
            read=list(interpreter_paths()),
            write=[str(folder)],
            memory_bytes=1 << 30,
            processes=256,
            file_size_bytes=64 << 20,
            cpu_s=120,
        ),
        bounds=BOUNDS,
        redactor=Unfiltered,
    )
    sys.stdout.write(ended.stdout + ended.stderr)
    if not ended.stdout.startswith("done"):
        sys.stdout.write(f"{ended.exit_code} {ended.signal} {ended.ended_by} {ended.duration_s}")


if __name__ == "__main__":
    main()
