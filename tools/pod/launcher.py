"""Runs one command in a container. Stdlib only; started, and spoken to, as `tools.sandbox.launcher` is.

It stays the server's own user, since the engine's client must be let in; the command never is. Whatever happens to the
worker or to this process, the container is removed: by a guard that waits, in a session of its own, for the end of a
pipe that nobody else holds. What even so is left is found by `tools.pod.leftovers`.
"""

import encodings.ascii
import encodings.latin_1  # noqa: F401
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

if not __package__:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tools.pod.docker import Docker
from tools.pod.engine import Engine, EngineFailed
from tools.pod.header import command, header, with_input
from tools.pod.kubernetes import Kubernetes
from tools.sandbox import kernel
from tools.sandbox.supervise import reporter

ENGINES: dict[str, type[Engine]] = {"docker": Docker, "kubernetes": Kubernetes}
_TICK_S = 0.1
_ENDED_S = 10.0  # between the end of the client and the engine's word that the command ended
_REMOVED_S = 1.5  # for the removal, where somebody waits for it


def main() -> None:
    spec_fd, status_fd, leash_fd, *_ = map(int, sys.argv[1:])
    kernel.close_all_but({spec_fd, status_fd, leash_fd})
    with open(spec_fd, "rb") as file:
        spec = json.load(file)
    for descriptor in (status_fd, leash_fd):
        os.set_inheritable(descriptor, False)
    wakeup = _arm(spec["worker"])
    report = reporter(status_fd)
    engine = ENGINES[spec["pod"]["engine"]](spec, f"countersign-{os.urandom(8).hex()}")
    ended_by, client = "", None
    guard, hold = _guarded(engine)
    try:
        head = header(spec["env"], spec["limits"])
        engine.create(command(spec["argv"], head))
        with_header = with_input(head, 0)
        client = subprocess.Popen(engine.attach(), stdin=with_header, env=spec["pod"]["environment"], cwd="/")
        for descriptor in (0, 1, 2, with_header):  # the readers see the end of file when the client is gone
            os.close(descriptor)
        ended_by = _watch(client, engine, spec, wakeup=wakeup, status_fd=status_fd, leash_fd=leash_fd)
        if not ended_by:
            state = _state(engine)
            ended_by = "memory" if state["memory"] else ""
            report(**{"exit-code": state["code"]})
    except (EngineFailed, ValueError, OSError) as error:
        report(setup_error=str(error))
    os.close(hold)
    clean = _ended(guard)
    if client is not None and client.poll() is None:
        client.kill()
    report(ended_by=ended_by, clean=clean, max_rss_bytes=0, cpu_s=0.0)
    os._exit(0)


def _arm(worker: int) -> int:
    """From here on SIGTERM only wakes us, and the worker's death sends it. Returns what becomes readable."""
    wakeup, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != worker:
        os._exit(111)
    return wakeup


def _watch(
    client: "subprocess.Popen[bytes]",
    engine: Engine,
    spec: dict[str, Any],
    *,
    wakeup: int,
    status_fd: int,
    leash_fd: int,
) -> str:
    """Returns when the client has ended or the container must go: why it must, "" where it ended by itself."""
    poller = select.poll()
    poller.register(wakeup, select.POLLIN)
    poller.register(status_fd, 0)  # POLLERR: the worker's end is closed
    poller.register(leash_fd, select.POLLIN)
    heard_s = began_s = time.monotonic()
    stop_at: float | None = None
    while client.poll() is None:
        events = dict(poller.poll(_TICK_S * 1000))
        now_s = time.monotonic()
        if status_fd in events or os.getppid() != spec["worker"]:
            return "orphaned"
        if leash_fd in events:
            os.read(leash_fd, 512)
            heard_s = now_s
        if now_s - began_s > spec["wall_s"]:
            return "late"
        if now_s - heard_s > spec["leash_s"]:
            return "unwatched"
        if wakeup in events:
            os.read(wakeup, 64)
            if stop_at is None:
                stop_at = now_s + spec["grace_s"]
                try:
                    engine.ask_to_end()
                except EngineFailed:
                    return "stopped"
        if stop_at is not None and now_s >= stop_at:
            return "stopped"
    return "stopped" if stop_at is not None else ""


def _state(engine: Engine) -> dict[str, Any]:
    """Raises EngineFailed: it is not known how the command ended."""
    until_s = time.monotonic() + _ENDED_S
    while time.monotonic() < until_s:
        state = engine.state()
        if state is not None:
            return state
        time.sleep(_TICK_S)
    raise EngineFailed("the client left the command while it runs")


def _guarded(engine: Engine) -> "tuple[subprocess.Popen[bytes], int]":
    """(what removes the container as soon as the descriptor is closed, the descriptor)"""
    end, hold = os.pipe2(os.O_CLOEXEC)
    guard = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; exec "$@"', "sh", *engine.removal()],
        stdin=end,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=engine.pod["environment"],
        cwd="/",
        start_new_session=True,
    )
    os.close(end)
    return guard, hold


def _ended(guard: "subprocess.Popen[bytes]") -> bool:
    """False where the engine has not said in time that the container is gone."""
    try:
        return guard.wait(_REMOVED_S) == 0
    except subprocess.TimeoutExpired:
        return False


if __name__ == "__main__":
    main()
