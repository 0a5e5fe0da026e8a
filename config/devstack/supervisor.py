"""Starts the stack's programs as forks, starts again what fails, and ends all of them in order.

One thread, one loop. A fork dies with the supervisor (by the kernel, so by SIGKILL too); what a fork leaves behind
comes to the supervisor as an orphan and is ended with the rest.
"""

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from config.devstack import fork, runfile
from config.devstack.console import ProcessLog, say
from config.devstack.errors import StackError
from config.devstack.linux import adopt_orphans, children_of, started_at
from config.devstack.postgres import Postgres
from config.devstack.processes import Program
from config.devstack.redis import Redis

BACKOFF_MAX_S = 30.0
STEADY_AFTER_S = 30.0
STOP_TIMEOUT_S = 8.0
SERVER_CRASHES_MAX = 5
READY = b"\x00ready\n"


class Stopped(Exception):
    """A signal asked the stack to end while it was starting."""


@dataclass
class _Child:
    program: Program
    log: ProcessLog
    reader: int
    writer: int
    pid: int = 0
    started: float = 0.0
    failures: int = 0
    due: float = 0.0  # when to start it again; 0: it runs, or is not wanted


class Supervisor:
    """Of one data folder. `servers` are started and started again by us; they end last."""

    def __init__(self, folder: Path, running: runfile.Running, servers: dict[str, Postgres | Redis]) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.running = running
        self.servers = servers
        self.stopping = False
        self.impatient = False
        self._children: dict[str, _Child] = {}
        self._announcer: tuple[int, int] | None = None  # pid, reader
        self._server_crashes: dict[str, list[float]] = {name: [] for name in servers}
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)

    def listen(self) -> None:
        """From here on SIGTERM, SIGINT and SIGHUP end the stack in order; a second one ends it at once."""
        adopt_orphans()
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(sign, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake the loop

    def run_to_end(self, call: Callable[[], object], *, title: str) -> None:
        """Runs `call` in a fork and waits; its output goes to its log.

        Raises:
            StackError: it failed; with the last line that it printed.
            Stopped
        """
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.logs / f"{title}.log"
        with path.open("wb") as out:
            pid = fork.spawn_call(call, title=title, output=out.fileno())
        code = None
        while code is None:
            if self.stopping:
                _signal_session(pid, signal.SIGKILL)
            code = _reap(pid)
            if code is None:
                self._wait(0.5)
        if self.stopping:
            raise Stopped
        if code:
            lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
            raise StackError(f"{title} failed: {lines[-1] if lines else f'exit code {code}'} (see {path})")

    def start(self, program: Program) -> None:
        """Starts a program, and from then on keeps it running."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writer, True)
        child = _Child(program, ProcessLog(self.logs, program.name), reader, writer)
        self._children[program.name] = child
        self._selector.register(reader, selectors.EVENT_READ, child)
        self._spawn(child)

    def announce(self, call: Callable[[], object]) -> None:
        """Runs `call` in a fork whose output is the terminal's; when it fails, the stack ends (see `run`)."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        pid = fork.spawn_call(call, title="announcer", output=writer)
        os.close(writer)
        self._announcer = (pid, reader)
        self._selector.register(reader, selectors.EVENT_READ, "announcer")

    def run(self) -> int:
        """Until a signal (0), or what cannot be mended (2)."""
        self._write_runfile()
        while not self.stopping:
            now = time.monotonic()
            due = [child.due - now for child in self._children.values() if child.due]
            self._wait(max(0.0, min([1.0, *due])))
            if self._look_after_announcer() or self._look_after_servers():
                return 2
            self._look_after_programs()
            self._bury_orphans()
        return 0

    def stop(self) -> None:
        """Ends the programs stage by stage, then what they left, then the servers in reverse order."""
        self.stopping = True
        self.running.state = "stopping"
        self._write_runfile()
        if self._announcer:
            _signal_session(self._announcer[0], signal.SIGKILL)
            self._reap_within([self._announcer[0]], 2)
        for stage in sorted({child.program.stop_stage for child in self._children.values()}):
            pids = [child.pid for child in self._children.values() if child.pid and child.program.stop_stage == stage]
            for pid in pids:
                _signal(pid, signal.SIGTERM)
            for pid in self._reap_within(pids, STOP_TIMEOUT_S):
                _signal_session(pid, signal.SIGKILL)
            self._reap_within(pids, 5)
            for child in self._children.values():
                if child.pid in pids:
                    child.pid = 0
        self._end_orphans()
        for name in reversed(list(self.servers)):
            self.servers[name].stop()
        for child in self._children.values():
            self._drain(child)
            child.log.close()
        runfile.remove(self.folder)

    # programs

    def _spawn(self, child: _Child) -> None:
        child.due = 0.0
        child.started = time.monotonic()
        child.pid = fork.spawn(child.program, output=child.writer)

    def _look_after_programs(self) -> None:
        changed = False
        for child in self._children.values():
            if child.pid:
                code = _reap(child.pid)
                if code is None:
                    continue
                _signal_session(child.pid, signal.SIGKILL)  # what it left in its session
                self._drain(child)
                child.pid, changed = 0, True
                lived = time.monotonic() - child.started
                child.failures = 1 if lived > STEADY_AFTER_S else child.failures + 1
                delay = min(BACKOFF_MAX_S, 0.25 * 2 ** (child.failures - 1))
                child.due = time.monotonic() + delay
                say(f"  {child.program.name} {_ended(code)} and starts again in {delay:g} s; see {child.log.path}")
            elif child.due and child.due <= time.monotonic() and not self.stopping:
                self._spawn(child)
                changed = True
        if changed:
            self._write_runfile()

    def _look_after_servers(self) -> bool:
        """True when a server cannot be kept running."""
        for name, server in self.servers.items():
            if server.process is None or server.process.poll() is None:
                continue
            now = time.monotonic()
            crashes = self._server_crashes[name] = [at for at in self._server_crashes[name] if now - at < 60] + [now]
            if len(crashes) > SERVER_CRASHES_MAX:
                say(f"  {name} ended {len(crashes)} times in a minute; see {server.log}")
                return True
            say(f"  {name} {_ended(server.process.returncode)} and starts again; see {server.log}")
            server.launch()
            self._write_runfile()
        return False

    def _look_after_announcer(self) -> bool:
        """True when it failed."""
        if self._announcer is None:
            return False
        pid, reader = self._announcer
        code = _reap(pid)
        if code is None:
            return False
        self._relay(reader)
        self._selector.unregister(reader)
        os.close(reader)
        self._announcer = None
        if code:
            return True
        self.running.state = "announced"
        self._write_runfile()
        return False

    def _bury_orphans(self) -> None:
        """Takes the exit codes of adopted processes, which would stay as zombies."""
        ours = {child.pid for child in self._children.values()}
        ours |= {server.process.pid for server in self.servers.values() if server.process}
        ours |= {self._announcer[0]} if self._announcer else set()
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid in ours:
                return
            _reap(ended.si_pid)

    def _end_orphans(self) -> None:
        servers = {server.process.pid for server in self.servers.values() if server.process}
        for _ in range(20):  # each round brings up what the round before hid
            left = [pid for pid in children_of(os.getpid()) if pid not in servers]
            if not left:
                return
            for pid in left:
                _signal(pid, signal.SIGKILL)
            self._reap_within(left, 1)

    # events

    def _on_signal(self, sign: int, frame: FrameType | None) -> None:
        self.impatient = self.stopping
        self.stopping = True

    def _wait(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._wake_reader.recv(4096)
            elif key.data == "announcer":
                assert self._announcer is not None
                self._relay(self._announcer[1])
            else:
                self._drain(key.data, once=True)

    def _drain(self, child: _Child, *, once: bool = False) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            while data := os.read(child.reader, 65536):
                child.log.feed(data)
                if once:
                    return

    def _relay(self, reader: int) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(reader, 65536)
            if READY in data:
                data = data.replace(READY, b"")
                self.running.state = "ready"
                self._write_runfile()
            os.write(1, data)

    def _reap_within(self, pids: list[int], timeout_s: float) -> list[int]:
        """Those that still live after it."""
        left, deadline = list(pids), time.monotonic() + timeout_s
        while left and time.monotonic() < deadline and not self.impatient:
            left = [pid for pid in left if _reap(pid) is None]
            if left:
                self._wait(0.1)
        return left

    def _write_runfile(self) -> None:
        pids = {child.program.name: child.pid for child in self._children.values() if child.pid}
        pids |= {name: server.process.pid for name, server in self.servers.items() if server.process}
        self.running.processes = {name: (pid, started_at(pid)) for name, pid in pids.items()}
        runfile.write(self.folder, self.running)


def _reap(pid: int) -> int | None:
    """The exit code of an ended child (negative: the signal), None while it lives, 0 when it is no child (any more)."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return os.waitstatus_to_exitcode(status) if found else None


def _signal(pid: int, sign: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, sign)


def _signal_session(pid: int, sign: int) -> None:
    """To all processes of the group that `pid` leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, sign)


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended (exit code {code})"
    return f"was killed ({signal.Signals(-code).name})"
