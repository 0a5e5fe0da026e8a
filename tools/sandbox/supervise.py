"""The launcher's watch over the command: memory, end, and the certainty that nothing outlives it. Stdlib only."""

from __future__ import annotations

import os
import resource
import select
import time

from tools.sandbox.light import as_json_line, signal, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TICK_S = 0.05
_SWEEP_S = 5.0


def children(pid: int) -> list[int]:
    """Direct children, by the kernel's own list where it has one, else by a walk over /proc."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as listing:
                found += [int(word) for word in listing.read().split()]
        return found
    except FileNotFoundError:
        return [] if not os.path.exists(f"/proc/{pid}") else _children_by_walk(pid)
    except OSError:
        return []


def _children_by_walk(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as stat_file:
                    line = stat_file.read()
            except OSError:
                continue
            if int(line[line.rindex(")") + 2 :].split()[1]) == pid:
                found.append(int(name))
    return found


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, parents before children."""
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children(queue.pop())
        found += below
        queue += below
    return found


def memory_bytes(pids: list[int]) -> int:
    """Anonymous and shared memory of these processes; pages that several share count for each of them."""
    return sum(_field_kb(f"/proc/{pid}/status", ("RssAnon:", "RssShmem:")) for pid in pids) * 1024


def exact_memory_bytes(pids: list[int]) -> int:
    """The same with shared pages counted once; slow, so asked only when the quick sum is over the limit."""
    return sum(_field_kb(f"/proc/{pid}/smaps_rollup", ("Pss_Anon:", "Pss_Shmem:")) for pid in pids) * 1024


def _field_kb(path: str, names: tuple[str, ...]) -> int:
    try:
        with open(path) as lines:
            return sum(int(line.split()[1]) for line in lines if line.startswith(names))
    except (OSError, ValueError, IndexError):
        return 0


class Supervisor:
    """Watches one child until it ends, is stopped, or the worker is gone; then sweeps.

    isolated: the child is pid 1 of a pid namespace (or holds one), so that its death is the death of all below it.
    """

    def __init__(
        self,
        child: int,
        *,
        isolated: bool,
        inits: int,
        status_fd: int,
        leash_fd: int,
        worker: int,
        memory_limit: int,
        grace_s: float,
        leash_s: float,
        wall_s: float,
    ) -> None:
        self.child = child
        self.isolated = isolated
        self.inits = inits  # how many generations below us are the sandbox's own, not the command's
        self.status_fd = status_fd
        self.leash_fd = leash_fd  # a byte of the worker's now and then
        self.worker = worker
        self.memory_limit = memory_limit
        self.grace_s = grace_s
        self.leash_s = leash_s  # for so long the worker may be silent
        self.wall_s = wall_s  # for so long the command may run, should the worker not end it
        self.ended_by = ""
        self.status: int | None = None

    def watch(self, wakeup: int) -> None:
        """Returns when the child has ended or must be swept away. `wakeup` is readable after SIGTERM came."""
        poller = select.poll()
        poller.register(os.pidfd_open(self.child), select.POLLIN)
        poller.register(wakeup, select.POLLIN)
        poller.register(self.status_fd, 0)  # POLLERR: the worker's end is closed
        poller.register(self.leash_fd, select.POLLIN)
        heard_s = began_s = time.monotonic()
        stop_at: float | None = None
        while True:
            events = dict(poller.poll(_TICK_S * 1000))
            self._reap()
            if self.status is not None:
                return
            if self.status_fd in events or os.getppid() != self.worker:
                self.ended_by = "orphaned"
                return
            now_s = time.monotonic()
            if self.leash_fd in events:
                os.read(self.leash_fd, 512)
                heard_s = now_s
            if now_s - heard_s > self.leash_s or now_s - began_s > self.wall_s:
                self.ended_by = "late" if now_s - began_s > self.wall_s else "unwatched"
                return
            if wakeup in events:
                os.read(wakeup, 64)
                if stop_at is None:
                    self.ended_by = "stopped"
                    stop_at = time.monotonic() + self.grace_s
                    self._ask_to_end()
            if stop_at is not None and time.monotonic() >= stop_at:
                return
            if self._over_memory():
                self.ended_by = "memory"
                return

    def sweep(self) -> bool:
        """Kills what is left, until the kernel says that we have no child. False if it did not come to that in time."""
        deadline = time.monotonic() + _SWEEP_S
        while time.monotonic() < deadline:
            targets = [self.child] if self.isolated and self.status is None else descendants(os.getpid())
            if not self.isolated:
                for pid in targets:  # first frozen, so that a storm of forks cannot outrun the sweep
                    _send(pid, signal.SIGSTOP)
            for pid in targets:
                _send(pid, signal.SIGKILL)
            if not self._reap():
                return True
            time.sleep(0.002)
        return False

    def _reap(self) -> bool:
        """Collects the dead. False when there is no child at all any more."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self.child:
                    self.status = status
        except ChildProcessError:
            return False

    def _ask_to_end(self) -> None:
        own = {self.child} if self.inits else set()
        generation = [self.child]
        for _ in range(self.inits - 1):
            generation = [below for pid in generation for below in children(pid)]
            own.update(generation)
        for pid in descendants(os.getpid()):
            if pid not in own:
                _send(pid, signal.SIGTERM)

    def _over_memory(self) -> bool:
        pids = descendants(os.getpid())
        used = memory_bytes(pids)
        return used > self.memory_limit and (exact_memory_bytes(pids) or used) > self.memory_limit


def usage() -> dict[str, Any]:
    """What the dead children used: `max_rss_bytes` of the largest, `cpu_s` of all."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"max_rss_bytes": used.ru_maxrss * 1024, "cpu_s": round(used.ru_utime + used.ru_stime, 3)}


def reporter(status_fd: int) -> Callable[..., None]:
    """A function that writes its keywords as one JSON line to the worker."""

    def report(**facts: Any) -> None:
        with suppress(OSError):  # the worker may be gone; the sweep goes on
            os.write(status_fd, as_json_line(facts))

    return report


def _send(pid: int, number: int) -> None:
    with suppress(OSError):
        os.kill(pid, number)
