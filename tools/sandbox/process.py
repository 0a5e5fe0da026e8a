"""The worker's side of one sandboxed command: start the launcher, read, bound, stop, and leave nothing behind."""

import contextlib
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from tools.pod import config as pods
from tools.sandbox.identity import Identity
from tools.sandbox.output import Filter
from tools.sandbox.streams import Stream

LAUNCHER = str(Path(__file__).resolve().with_name("launcher.py"))
POD_LAUNCHER = str(Path(__file__).resolve().parents[1] / "pod" / "launcher.py")

_CHUNK = 128 * 1024
_PIPE_BYTES = 256 * 1024  # what the kernel may hold of a stream, so that neither side waits for the other at each turn
_TURN = 8  # chunks that are read of one stream before the others, and the clock, are looked at
_POLL_S = 0.1
_GRACE_S = 1.0  # for a command that handles SIGTERM
_KILL_S = 3.0  # after the SIGTERM, should the launcher itself hang
_LEASH_S = 25.0  # for so long the launcher does without a word of ours: less than the lease of a step
_WORD_S = 0.5
_CLOSE_S = 0.5  # for pipes that something still holds
_WORDS = {"memory": "memory", "late": "timeout", "unwatched": "cancelled"}  # of the launcher, where it acted by itself
_SEALS = 0x0001 | 0x0002 | 0x0004 | 0x0008  # F_SEAL_SEAL, _SHRINK, _GROW, _WRITE


class SetupFailed(Exception):
    """The launcher could not build the sandbox; the command did not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What the launcher is asked for. Paths are absolute and real; every `write` path is readable too. network: the
    egress proxy is reachable (`tools.egress.proxy`)."""

    tier: str
    identity: Identity
    read: Sequence[str]
    write: Sequence[str]
    memory_bytes: int
    processes: int
    file_size_bytes: int
    cpu_s: int
    open_files: int = 4096
    network: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """timeout_s: wall clock; head, tail: bytes kept of each stream; kill: bytes of both streams that end the command;
    leash_s: how long a worker that hangs (in `on_output`, in `cancelled`) may leave the command alone."""

    timeout_s: float
    output_head_bytes: int
    output_tail_bytes: int
    output_kill_bytes: int
    leash_s: float = _LEASH_S


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of the command; see `tools.spec.Completed`. `clean` is False if a process may have survived."""

    exit_code: int | None = None
    signal: int | None = None
    stdout: str = ""
    stderr: str = ""
    truncated_bytes: int = 0
    duration_s: float = 0.0
    ended_by: str = ""
    max_rss_bytes: int = 0
    cpu_s: float = 0.0
    clean: bool = False


class Talk:
    """The command's ends of two pipes: what it reads from, and what it writes to. `close()` may be called again."""

    def __init__(self, stdin_fd: int, stdout_fd: int) -> None:
        self.fds = (stdin_fd, stdout_fd)
        self._open = True

    def close(self) -> None:
        if self._open:
            self._open = False
            for descriptor in self.fds:
                os.close(descriptor)


@dataclass(slots=True)
class _Pipe:
    pipe: IO[bytes]
    stream: Stream
    raw_bytes: int = 0


@dataclass(slots=True)
class _Status:
    pending: bytes = b""
    facts: dict[str, Any] = field(default_factory=dict)

    def feed(self, chunk: bytes) -> None:
        *lines, self.pending = (self.pending + chunk).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                facts = json.loads(line)
                if isinstance(facts, dict):
                    self.facts.update(facts)


def run(
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    stdin: bytes,
    confinement: Confinement,
    bounds: Bounds,
    redactor: Callable[[], Filter],
    on_output: Callable[[str, str], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    egress_fd: int | None = None,
    talk: "Talk | None" = None,
) -> Outcome:
    """Runs `argv` confined and waits. `on_output(stream, text)` is called a few times a second at most.

    talk: becomes the command's input and output, for somebody who speaks with it meanwhile; there is no `stdin` then, and
    the bounds of the output are those of its errors.

    However this returns or raises, no process of the command is left; the exception is a launcher that was killed from
    outside (`Outcome.clean` is then False). egress_fd: with `confinement.network`, a unix socket that is sent the
    descriptor on which the proxy listens.

    Raises:
        SetupFailed: the sandbox could not be built.
    """
    return _Run(argv, cwd, env, stdin, confinement, bounds, redactor, on_output, cancelled, egress_fd, talk).run()


class _Run:
    def __init__(
        self,
        argv: Sequence[str],
        cwd: str,
        env: Mapping[str, str],
        stdin: bytes,
        confinement: Confinement,
        bounds: Bounds,
        redactor: Callable[[], Filter],
        on_output: Callable[[str, str], None] | None,
        cancelled: Callable[[], bool],
        egress_fd: int | None,
        talk: "Talk | None",
    ) -> None:
        self.bounds = bounds
        self.cancelled = cancelled
        self.redactor = redactor
        self.on_output = on_output
        self.status = _Status()
        self.ended_by = ""
        self.spec = {
            **asdict(confinement),
            **asdict(confinement.identity),
            "argv": list(argv),
            "cwd": cwd,
            "env": dict(env),
            "worker": os.getpid(),
            "grace_s": _GRACE_S,
            "leash_s": bounds.leash_s,
            "wall_s": bounds.timeout_s + _KILL_S,
            "limits": {
                "cpu_s": confinement.cpu_s,
                "memory_bytes": confinement.memory_bytes,
                "data_bytes": confinement.memory_bytes,
                "file_size_bytes": confinement.file_size_bytes,
                "open_files": confinement.open_files,
                "processes": confinement.processes,
            },
        }
        if confinement.tier == "pod":
            self.spec["pod"] = pods.current().as_spec()
        self.launcher = POD_LAUNCHER if confinement.tier == "pod" else LAUNCHER
        self.stdin = stdin
        self.leash_fd = -1
        self.egress = [] if egress_fd is None else [egress_fd]
        self.talk = talk

    def run(self) -> Outcome:
        started_s = time.monotonic()
        with contextlib.ExitStack() as stack:
            launcher, status_fd = self._start(stack)
            try:
                streams = self._streams(launcher)
                self._read(launcher, streams, status_fd, started_s + self.bounds.timeout_s)
            finally:
                _end(launcher)
            outcome = self._outcome(streams)
            outcome.duration_s = round(time.monotonic() - started_s, 3)
            return outcome

    def _start(self, stack: contextlib.ExitStack) -> "tuple[subprocess.Popen[bytes], int]":
        spec_fd = _sealed("spec", json.dumps(self.spec).encode())
        stack.callback(os.close, spec_fd)
        if self.talk is not None:
            stdin_fd, stdout = self.talk.fds
        else:
            stdin_fd, stdout = _sealed("stdin", self.stdin), subprocess.PIPE
            stack.callback(os.close, stdin_fd)
        status_fd, report_fd = os.pipe()
        stack.callback(os.close, status_fd)
        leash_fd, self.leash_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        stack.callback(os.close, self.leash_fd)
        try:
            launcher = subprocess.Popen(
                [sys.executable, "-I", "-S", self.launcher, *map(str, (spec_fd, report_fd, leash_fd, *self.egress))],
                stdin=stdin_fd,
                stdout=stdout,
                stderr=subprocess.PIPE,
                pass_fds=(spec_fd, report_fd, leash_fd, *self.egress),
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(report_fd)
            os.close(leash_fd)
        if self.talk is not None:  # its ends are the command's alone, so that its death is seen
            self.talk.close()
        return launcher, status_fd

    def _streams(self, launcher: "subprocess.Popen[bytes]") -> dict[str, _Pipe]:
        made = {}
        for name, pipe in (("stdout", launcher.stdout), ("stderr", launcher.stderr)):
            if pipe is None:  # somebody else reads it
                continue
            with contextlib.suppress(OSError):  # a user's pipes may hold so much together
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            os.set_blocking(pipe.fileno(), False)
            stream = Stream(
                head_bytes=self.bounds.output_head_bytes,
                tail_bytes=self.bounds.output_tail_bytes,
                redactor=self.redactor,
                sink=partial(self.on_output, name) if self.on_output else None,
            )
            made[name] = _Pipe(pipe, stream)
        return made

    def _read(
        self, launcher: "subprocess.Popen[bytes]", streams: dict[str, _Pipe], status_fd: int, deadline_s: float
    ) -> None:
        asked_s = float("-inf")  # when `cancelled` was asked last
        told_s: float | None = None  # when SIGTERM went out
        gone_s: float | None = None  # when the launcher was seen to be dead
        word_s = float("-inf")  # when the launcher had a word of ours
        with selectors.DefaultSelector() as selector:
            for piped in streams.values():
                selector.register(piped.pipe, selectors.EVENT_READ, piped)
            selector.register(status_fd, selectors.EVENT_READ, self.status)
            while selector.get_map():
                now_s = time.monotonic()
                wait_s = _POLL_S if told_s is not None else max(0.0, min(_POLL_S, deadline_s - now_s))
                for key, _ in selector.select(wait_s):
                    self._take(selector, key, time.monotonic())
                now_s = time.monotonic()
                if now_s - word_s >= _WORD_S:
                    word_s = now_s
                    with contextlib.suppress(OSError):  # it may be gone, or hang itself
                        os.write(self.leash_fd, b".")
                for piped in streams.values():
                    piped.stream.tick(now_s)
                ask = now_s - asked_s >= _POLL_S
                if ask:
                    asked_s = now_s
                if told_s is None and (reason := self._reason_to_stop(streams, late=now_s >= deadline_s, ask=ask)):
                    self.ended_by, told_s = reason, now_s
                    _signal(launcher, signal.SIGTERM)
                if told_s is not None and now_s - told_s > _KILL_S:
                    _signal(launcher, signal.SIGKILL)
                if gone_s is None and launcher.poll() is not None:
                    gone_s = now_s
                if gone_s is not None and now_s - gone_s > _CLOSE_S:
                    return

    def _take(self, selector: selectors.BaseSelector, key: selectors.SelectorKey, now_s: float) -> None:
        for _ in range(_TURN):
            try:
                chunk = os.read(key.fd, _CHUNK)
            except BlockingIOError:
                return
            if not chunk:
                selector.unregister(key.fileobj)
                return
            if isinstance(key.data, _Status):
                key.data.feed(chunk)
                return
            self._output(key.data, chunk, now_s)

    def _output(self, piped: _Pipe, chunk: bytes, now_s: float) -> None:
        piped.raw_bytes += len(chunk)
        if piped.raw_bytes > self.bounds.output_kill_bytes:
            piped.stream.skip(len(chunk))  # only drained: the command is being stopped
        else:
            piped.stream.feed(chunk, now_s)

    def _reason_to_stop(self, streams: dict[str, _Pipe], *, late: bool, ask: bool) -> str:
        if late:
            return "timeout"
        if sum(piped.raw_bytes for piped in streams.values()) > self.bounds.output_kill_bytes:
            return "output_limit"
        return "cancelled" if ask and self.cancelled() else ""

    def _outcome(self, streams: dict[str, _Pipe]) -> Outcome:
        now_s = time.monotonic()
        outcome = Outcome()
        for name, piped in streams.items():
            text, missing = piped.stream.finish(now_s)
            setattr(outcome, name, text)
            outcome.truncated_bytes += missing
        facts = self.status.facts
        if "setup_error" in facts:
            raise SetupFailed(str(facts["setup_error"]))
        if "exit-code" in facts:  # bwrap's word for it: a signal shows as 128 + its number, as in a shell
            code = int(facts["exit-code"])
            facts |= {"exit": None, "signal": code - 128} if 128 < code <= 192 else {"exit": code, "signal": None}
        self.ended_by = self.ended_by or _WORDS.get(str(facts.get("ended_by")), "")
        if "exit" not in facts and not self.ended_by:
            raise SetupFailed(outcome.stderr.strip()[-500:] or "the launcher ended without a word")
        outcome.exit_code, outcome.signal = facts.get("exit"), facts.get("signal")
        outcome.ended_by = self.ended_by
        outcome.max_rss_bytes = int(facts.get("max_rss_bytes", 0))
        outcome.cpu_s = float(facts.get("cpu_s", 0.0))
        outcome.clean = bool(facts.get("clean", False))
        return outcome


def _sealed(name: str, data: bytes) -> int:
    """A descriptor of unchangeable memory that holds `data`, at its start."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def _signal(launcher: "subprocess.Popen[bytes]", number: int) -> None:
    if launcher.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            launcher.send_signal(number)


def _end(launcher: "subprocess.Popen[bytes]") -> None:
    """The launcher is gone when this returns, whatever went wrong before; it takes the command with it."""
    if launcher.poll() is None:
        _signal(launcher, signal.SIGTERM)
        try:
            launcher.wait(_KILL_S)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()
    for pipe in (launcher.stdout, launcher.stderr):
        if pipe:
            pipe.close()
