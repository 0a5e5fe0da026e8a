"""The faults, one after another by a seeded schedule, each with real processes, and what was done when."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import redis

from bench.campaign.stack import Stack
from config.devstack.linux import children_of

QUICK = (
    *("kill_worker", "flush_redis", "restart_postgres", "stop_worker", "kill_sweeper", "kill_web", "kill_redis"),
    "kill_worker",
)
SHORT = ("kill_worker", "flush_redis", "stop_worker", "storm", "restart_postgres")
FULL = (
    *("kill_worker",) * 5,
    *("stop_worker", "stop_worker"),
    *("kill_sweeper", "stop_sweeper", "kill_web", "stop_web", "kill_beat", "kill_sequencer"),
    *("flush_redis", "kill_redis", "pause_redis"),
    *("restart_postgres", "crash_postgres", "pause_postgres"),
    *("slow_disk", "storm"),
)
PAUSE_S = 3.0
BUSY_WITHIN_S = 3.0
CALM_WITHIN_S = 8.0
_WAITING = "SELECT count(*) FROM agents_step WHERE state IN ('queued', 'ready')"
SLOW_DISK_S = 5.0
SLOW_COMMIT_US = 100_000  # PostgreSQL's most


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to which process. Seconds since the epoch; `ended`: when it was taken back, or had come back."""

    kind: str
    name: str
    pid: int
    began: float
    ended: float
    clean: bool = False  # nothing else was wrong while the system recovered from it


@dataclass(slots=True)
class Faults:
    """quiet: cleared while a process is stopped. hold: stops and starts the submission of jobs."""

    stack: Stack
    quiet: threading.Event
    chosen: random.Random
    hold: Callable[[bool], None]
    done: list[Fault] = field(default_factory=list)

    def run(self, schedule: list[str], *, gap_s: tuple[float, float], say: Callable[[str], None]) -> None:
        for kind in schedule:
            time.sleep(self.chosen.uniform(*gap_s))
            before = len(self.done)
            getattr(self, f"_{kind}")()
            say(", ".join(f"{fault.kind} {fault.name}" for fault in self.done[before:]) or f"{kind}: nothing to hit")

    def take_back(self) -> None:
        """Nothing is stopped or slow any more."""
        self.stack.signal_all(signal.SIGCONT)
        self.quiet.set()
        self._commit_delay(0)

    # processes

    def _kill_worker(self) -> None:
        """One that holds steps, and nothing else until they must have been taken over. Nothing waits in the queues
        just then, so that the time until they run again is the recovery's and not a queue's."""
        self.hold(True)
        deadline = time.monotonic() + CALM_WITHIN_S
        while self.stack.query(_WAITING)[0][0] > 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        self._kill(self._busy_worker(least=1), "kill_worker", clean=True)
        self.hold(False)
        time.sleep(self.stack.lease_s + 2.5)

    def _stop_worker(self) -> None:
        """For longer than its lease: it wakes up to steps that others have taken."""
        self._stop(self._busy_worker(), "stop_worker", self.stack.lease_s + 2.0)

    def _kill_sweeper(self) -> None:
        self._kill(self.chosen.choice(["sweeper", "sweeper-2"]), "kill_sweeper")

    def _stop_sweeper(self) -> None:
        """And a worker dies meanwhile: the other sweeper must find out."""
        name = self.chosen.choice(["sweeper", "sweeper-2"])
        self._kill(self._busy_worker(), "kill_worker")
        self._stop(name, "stop_sweeper", self.stack.lease_s + 4.0)

    def _kill_web(self) -> None:
        self._kill("web", "kill_web")

    def _stop_web(self) -> None:
        self._stop("web", "stop_web", PAUSE_S)

    def _kill_beat(self) -> None:
        self._kill(self.chosen.choice(["beat", "beat-2"]), "kill_beat")

    def _kill_sequencer(self) -> None:
        self._kill("sequencer", "kill_sequencer")

    def _busy_worker(self, *, least: int = 2) -> str:
        """One that holds at least so many steps, where there soon is one, and any other where not."""
        sql = "SELECT split_part(claimed_by, '@', 1), count(*) FROM agents_step WHERE state = 'running' GROUP BY 1"
        deadline = time.monotonic() + BUSY_WITHIN_S
        while True:
            workers = sorted(name for name in self.stack.pids() if name.startswith("worker-"))
            held = {f"worker-{name}": count for name, count in self.stack.query(sql)}
            busy = [name for name in workers if held.get(name, 0) >= least]
            if busy or time.monotonic() > deadline:
                return self.chosen.choice(busy or workers)
            time.sleep(0.02)

    def _kill(self, name: str, kind: str, sign: int = signal.SIGKILL, *, clean: bool = False) -> None:
        pid = self.stack.pids().get(name)
        if pid is None:
            return
        began = time.time()
        with suppress(ProcessLookupError):
            os.kill(pid, sign)
            self.done.append(Fault(kind, name, pid, began, time.time(), clean))

    def _stop(self, name: str, kind: str, seconds: float) -> None:
        pid = self.stack.pids().get(name)
        if pid is None:
            return
        pids = [pid, *(children_of(pid) if name == "postgres" else [])]
        self.quiet.clear()
        began = time.time()
        self._signal(pids, signal.SIGSTOP)
        time.sleep(seconds)
        self._signal(pids, signal.SIGCONT)
        self.done.append(Fault(kind, name, pid, began, time.time()))
        self.quiet.set()

    def _signal(self, pids: list[int], sign: int) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, sign)

    # servers

    def _flush_redis(self) -> None:
        began = time.time()
        while time.time() < began + 30:  # it may be coming back from another fault
            with suppress(redis.RedisError), redis.Redis.from_url(self._redis_url) as client:
                client.flushall()
                self.done.append(Fault("flush_redis", "redis", self.stack.pids().get("redis", 0), began, time.time()))
                return
            time.sleep(0.05)

    def _kill_redis(self) -> None:
        """It comes back empty."""
        self._kill("redis", "kill_redis")

    def _pause_redis(self) -> None:
        self._stop("redis", "pause_redis", PAUSE_S)

    def _restart_postgres(self) -> None:
        """Its fast shutdown: every connection is cut."""
        self._shut_down_postgres("restart_postgres", signal.SIGINT)

    def _crash_postgres(self) -> None:
        """Its immediate shutdown: it comes back by recovery from its log."""
        self._shut_down_postgres("crash_postgres", signal.SIGQUIT)

    def _pause_postgres(self) -> None:
        """Every process of it stands still, as with a disk that hangs."""
        self._stop("postgres", "pause_postgres", PAUSE_S)

    def _slow_disk(self) -> None:
        """Simulated: each commit waits a tenth of a second before its log is flushed."""
        began = time.time()
        self._commit_delay(SLOW_COMMIT_US)
        time.sleep(SLOW_DISK_S)
        self._commit_delay(0)
        self.done.append(Fault("slow_disk", "postgres", self.stack.pids().get("postgres", 0), began, time.time()))

    def _storm(self) -> None:
        """Much at once."""
        for strike in (self._flush_redis, self._kill_web, self._crash_postgres):
            strike()
        self._kill(self._busy_worker(), "kill_worker")
        self._kill_sweeper()
        self._kill_redis()

    def _shut_down_postgres(self, kind: str, sign: int) -> None:
        pid = self.stack.pids().get("postgres")
        if pid is None:
            return
        began = time.time()
        self._signal([pid], sign)
        while self.stack.pids().get("postgres", pid) == pid and time.time() < began + 30:
            time.sleep(0.05)
        self.stack.query("SELECT 1")
        self.done.append(Fault(kind, "postgres", pid, began, time.time()))

    def _commit_delay(self, microseconds: int) -> None:
        self.stack.as_owner(f"ALTER SYSTEM SET commit_delay = {microseconds}")
        self.stack.as_owner("ALTER SYSTEM SET commit_siblings = 0")
        self.stack.as_owner("SELECT pg_reload_conf()")

    @property
    def _redis_url(self) -> str:
        return self.stack.environ()["REDIS_URL"]
