"""Runs one command in a sandbox. Stdlib only; started as `python -I -S launcher.py SPEC_FD STATUS_FD LEASH_FD
[EGRESS_FD]`.

SPEC_FD holds a JSON object: tier ("bwrap", "ns", "ll"), argv, env, cwd, read (paths), write (paths), uid and gid (to
drop to when started as root), network (is the egress proxy reachable), worker (the pid that must be our parent), limits
(cpu_s, memory_bytes, data_bytes, file_size_bytes, open_files, processes), grace_s (between SIGTERM and SIGKILL when we
are told to stop), leash_s, wall_s.
STATUS_FD receives JSON lines: `setup_error` if nothing ran; `exit` or `signal` of the command; and at the end
`ended_by`, `clean`, `max_rss_bytes`, `cpu_s`. SIGTERM stops the command; the death of the worker does too.
LEASH_FD gets a byte of the worker's now and then: a worker that hangs (in a database call, say) can stop nothing, so after
leash_s of silence, and after wall_s in any case, the command is ended without it.
EGRESS_FD is a unix socket: with `network`, the socket that listens on 127.0.0.1:3128 in the command's own network goes
out there.
"""

from __future__ import annotations

import encodings.ascii
import encodings.latin_1  # noqa: F401
import errno
import os
import sys

if not __package__:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tools.sandbox import bubblewrap, confine, kernel, landlock, namespaces, seccomp, supervise
from tools.sandbox.light import from_json, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def main() -> None:
    spec_fd, status_fd, leash_fd, *egress = map(int, sys.argv[1:])
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    kernel.close_all_but({spec_fd, status_fd, leash_fd, *egress})
    spec = _read(spec_fd)
    if spec["network"]:  # everything is imported before another user does it, who may not reach the files
        from tools.sandbox import loopback  # noqa: F401
    for descriptor in (status_fd, leash_fd, *egress):
        os.set_inheritable(descriptor, False)
    report = supervise.reporter(status_fd)
    try:
        drop_privileges(spec["uid"], spec["gid"])
        wakeup = _arm(spec["worker"])
        child, isolated, inits = start(spec, report, status_fd, egress[0] if spec["network"] else None)
    except BaseException as error:
        report(setup_error=repr(error))
        os._exit(125)
    for descriptor in (0, 1, 2, *egress):  # the readers see the end of file when the command is gone
        os.close(descriptor)
    watched = supervise.Supervisor(
        child,
        isolated=isolated,
        inits=inits,
        status_fd=status_fd,
        leash_fd=leash_fd,
        worker=spec["worker"],
        memory_limit=spec["limits"]["memory_bytes"],
        grace_s=spec["grace_s"],
        leash_s=spec["leash_s"],
        wall_s=spec["wall_s"],
    )
    watched.watch(wakeup)
    clean = watched.sweep()
    if spec["tier"] == "ll" and watched.status is not None:
        report(**namespaces.outcome(watched.status))
    report(ended_by=watched.ended_by, clean=clean, **supervise.usage())
    os._exit(0)


def drop_privileges(uid: int, gid: int) -> None:
    """Root becomes the sandbox's own user; anybody else stays who they are.

    Raises:
        PermissionError: root, and no user to drop to.
    """
    if os.geteuid() != 0:
        return
    if uid == 0 or gid == 0:
        raise PermissionError("commands never run as root")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # setuid gave /proc/self to root, and uid_map with it


def start(
    spec: dict[str, Any], report: Callable[..., None], status_fd: int, egress_fd: int | None = None
) -> tuple[int, bool, int]:
    """Starts the command in its tier: (our child's pid, is it a pid namespace, generations that are the sandbox's)."""
    tier = spec["tier"]
    _count_processes(spec)
    if tier == "bwrap":
        return _start_bwrap(spec, report, status_fd, egress_fd), True, 2
    if tier == "ns":
        namespaces.enter_user_namespace()
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            namespaces.first_process(spec, report, egress_fd)
        return child, True, 1
    if tier == "ll":
        if egress_fd is not None:
            raise OSError("the ll tier has no network of its own, so it offers none")
        if landlock.abi() < landlock.ABI_SCOPED:
            raise OSError(f"Landlock ABI {landlock.ABI_SCOPED} is needed, this kernel has {landlock.abi()}")
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            try:
                kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
                confine.become_command(spec)
            except BaseException as error:
                report(setup_error=repr(error))
                os._exit(126)
        return child, False, 0
    raise ValueError(f"there is no tier {tier!r}")


def _start_bwrap(
    spec: dict[str, Any], report: Callable[..., None], status_fd: int, egress_fd: int | None = None
) -> int:
    bwrap = bubblewrap.program()
    if bwrap is None:
        raise FileNotFoundError("bwrap is not installed")
    filter_fd, feed = os.pipe()
    os.write(feed, seccomp.program("bwrap", network=spec["network"]))
    os.close(feed)
    told, tells = os.pipe() if egress_fd is not None else (-1, -1)
    waits, go = os.pipe() if egress_fd is not None else (-1, -1)
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        try:
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            confine.prepare(spec)
            confine.apply_limits(spec["limits"])
            wait_fds = (tells, waits) if egress_fd is not None else None
            for descriptor in (filter_fd, status_fd, *(wait_fds or ())):
                os.set_inheritable(descriptor, True)
            made = bubblewrap.arguments(spec, bwrap=bwrap, filter_fd=filter_fd, status_fd=status_fd, wait_fds=wait_fds)
            _exec_bwrap(bwrap, made, report)
        except BaseException as error:
            report(setup_error=repr(error))
            os._exit(126)
    os.close(filter_fd)
    if egress_fd is not None:
        os.close(tells)
        os.close(waits)
        try:
            from tools.sandbox import loopback

            loopback.hand_out_from_inside(told, egress_fd)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        os.write(go, b"1")
        os.close(told)
        os.close(go)
    return child


def _exec_bwrap(bwrap: str, made: list[str], report: Callable[..., None]) -> None:
    try:
        os.execve(bwrap, made, {})
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        code = confine.complain(made[-1][:80], "Argument list too long", 126)  # as the other tiers answer it
        report(exit=code, signal=None)
        os._exit(code)


def _count_processes(spec: dict[str, Any]) -> None:
    """RLIMIT_NPROC counts all of a user's tasks, except in a user namespace made before the limit was set: what this
    user already runs is added, so that a busy server does not starve its commands."""
    if spec["tier"] == "ns":
        return
    me, running = os.geteuid(), 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == me:
                    running += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
    spec["limits"]["processes"] += running


def _arm(worker: int) -> int:
    """From here on SIGTERM only wakes the supervisor, and the worker's death sends it. Returns what becomes readable."""
    wakeup, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != worker:
        os._exit(111)
    return wakeup


def _read(spec_fd: int) -> dict[str, Any]:
    parts = []
    while part := os.read(spec_fd, 1 << 16):
        parts.append(part)
    os.close(spec_fd)
    spec: dict[str, Any] = from_json(b"".join(parts).decode())
    return spec


if __name__ == "__main__":
    main()
