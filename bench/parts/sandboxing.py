"""Sandboxed runs as a worker does them, for the bench: no database, no engine; a folder of its own as the workspace."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.redact import Redactor
from tools.sandbox import process
from tools.sandbox.environment import base_environment, interpreter_paths
from tools.sandbox.identity import Identity, identity_for

UNBOUNDED = 1 << 60
# Writes so many bytes of short lines, from one block of memory.
_FLOOD = """
import os, sys
left, block = int(sys.argv[1]), b"a line of output that is neither long nor short, number 7\\n" * 4500
while left > 0:
    left -= os.write(1, block[:left])
"""
# Ignores SIGTERM, leaves a daemon with the pipes open in a session of its own, and one that always starts itself anew.
_STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    while os.fork() == 0 or time.sleep(0.001) or os._exit(0):
        pass
if os.fork() == 0:
    os.setsid()
    print("ready", flush=True)
while True:
    time.sleep(1)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A workspace and who its commands run as."""

    folder: Path
    identity: Identity

    def run(
        self,
        tier: str,
        argv: list[str],
        *,
        output_kill_bytes: int = 8 << 20,
        on_output: Callable[[str, str], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> process.Outcome:
        return process.run(
            argv,
            cwd=str(self.folder),
            env=base_environment(home=self.folder, scratch=self.folder),
            stdin=b"",
            confinement=process.Confinement(
                tier=tier,
                identity=self.identity,
                read=interpreter_paths(),
                write=[str(self.folder)],
                memory_bytes=1 << 30,
                processes=64,
                file_size_bytes=16 << 20,
                cpu_s=1200,
            ),
            bounds=process.Bounds(
                timeout_s=1200.0,
                output_head_bytes=32 * 1024,
                output_tail_bytes=32 * 1024,
                output_kill_bytes=output_kill_bytes,
            ),
            redactor=Redactor,
            on_output=on_output,
            cancelled=cancelled,
        )


@contextlib.contextmanager
def place() -> Iterator[Place]:
    root = Path(tempfile.mkdtemp(prefix="countersign-bench-", dir="/tmp"))
    try:
        root.chmod(0o711)
        identity = identity_for(root.name)
        folder = root / "workspace"
        folder.mkdir(mode=0o700)
        if identity.dropped:
            os.chown(folder, identity.uid, identity.gid)
        yield Place(folder=folder, identity=identity)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def bare_ms() -> float:
    """One bare process that does nothing, its output read."""
    began = time.perf_counter()
    subprocess.run(["/bin/true"], capture_output=True, check=True)
    return (time.perf_counter() - began) * 1000


def held_ms(where: Place, tier: str) -> float:
    """The same in a tier."""
    began = time.perf_counter()
    outcome = where.run(tier, ["/bin/true"])
    took = (time.perf_counter() - began) * 1000
    if outcome.exit_code != 0 or not outcome.clean:
        raise RuntimeError(f"{tier}: {outcome}")
    return took


def cpu_ms() -> float:
    """Processor time of this process and of all whose end it has seen."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used) * 1000


def flood(tier: str, size_bytes: int) -> dict[str, float]:
    """In this process: a step that prints `size_bytes`. mb_per_s, and more_mb of memory than a step that prints little."""
    shown = [0]

    def show(stream: str, text: str) -> None:
        shown[0] += len(text)

    with place() as where:
        argv = ["python3", "-I", "-S", "-c", _FLOOD]
        where.run(tier, [*argv, "100000"], on_output=show)
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        outcome = where.run(tier, [*argv, str(size_bytes)], output_kill_bytes=UNBOUNDED, on_output=show)
        took_s = time.perf_counter() - began
        after_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if outcome.exit_code != 0 or not size_bytes - 66_000 < outcome.truncated_bytes < size_bytes:
        raise RuntimeError(f"{tier}: {outcome.exit_code} {outcome.ended_by} {outcome.truncated_bytes}")
    return {"mb_per_s": size_bytes / took_s / 1e6, "more_mb": (after_kb - before_kb) * 1024 / 1e6}


def cancel_s(where: Place, tier: str) -> float:
    """From the cancel of a family that will not go to its end, every process of it included."""
    mark = f"mark-{uuid.uuid4()}"
    ready = threading.Event()
    asked: list[float] = []

    def cancelled() -> bool:
        if ready.is_set() and not asked:
            asked.append(time.monotonic())
        return bool(asked)

    where.run(tier, ["python3", "-c", _STUBBORN, mark], on_output=lambda *_: ready.set(), cancelled=cancelled)
    _until_gone(mark)
    return time.monotonic() - asked[0]


def worker_killed_s(tier: str) -> float:
    """From SIGKILL of a worker in mid-run to the end of the last process of its command's family."""
    mark = f"mark-{uuid.uuid4()}"
    worker = subprocess.Popen([sys.executable, "-m", "bench.parts.sandboxing", tier, mark], stdout=subprocess.PIPE)
    with worker:
        assert worker.stdout is not None
        if worker.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{tier}: the command did not begin")
        worker.send_signal(signal.SIGKILL)
        began = time.monotonic()
        _until_gone(mark)
        return time.monotonic() - began


def hold(tier: str, mark: str) -> None:
    """What `worker_killed_s` starts: runs the family until it is killed."""
    with place() as where:
        where.run(tier, ["python3", "-c", _STUBBORN, mark], on_output=lambda _, text: print(text, end="", flush=True))


def _until_gone(mark: str) -> None:
    deadline_s = time.monotonic() + 60
    while _alive(mark):
        if time.monotonic() > deadline_s:
            raise RuntimeError("processes are left")
        time.sleep(0.005)


def _alive(mark: str) -> bool:
    needle = mark.encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                line = Path("/proc", name, "cmdline").read_bytes()
                if needle in line and b"bench.parts.sandboxing" not in line:
                    return True
    return False


if __name__ == "__main__":
    hold(sys.argv[1], sys.argv[2])
