"""Other processes: the worker, the supervisor, and a bystander of the same user; and what is left behind."""

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import struct
import threading
import time

from tests.integration.tools.attacks.common import attack, attempt, escaped, libc, raw, refused

SIGNAL = "no signal or trace to other processes"


@attack(SIGNAL)
def signals(f):
    for pid in (f["worker"], f["victim"]):
        attempt(f"signal {pid}", lambda pid=pid: os.kill(pid, 0))
        attempt(f"kill {pid}", lambda pid=pid: os.kill(pid, signal.SIGKILL))
        attempt(f"kill group {pid}", lambda pid=pid: os.killpg(pid, signal.SIGKILL))
        for name, x86, arm in (("tgkill", 234, 131), ("tkill", 200, 130)):
            arguments = (pid, pid, 9) if name == "tgkill" else (pid, 9)
            if raw(x86, arm, *arguments)[0] == 0:
                escaped(name, pid)
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(pid)
            attempt(f"by handle {pid}", lambda handle=handle: signal.pidfd_send_signal(handle, signal.SIGKILL))


@attack(SIGNAL)
def signals_by_the_kernel(f):
    """The owner of a pipe gets a signal of one's choice when something is written."""
    for pid in (f["worker"], f["victim"]):
        ours, theirs = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(ours, 10, signal.SIGKILL)  # F_SETSIG
            fcntl.fcntl(ours, fcntl.F_SETOWN, pid)
            fcntl.fcntl(ours, 15, struct.pack("ii", 1, pid))  # F_SETOWN_EX, by process
            fcntl.fcntl(ours, fcntl.F_SETFL, fcntl.fcntl(ours, fcntl.F_GETFL) | os.O_ASYNC)
            os.write(theirs, b"x")
    time.sleep(0.05)


@attack(SIGNAL)
def against_the_supervisor(f):
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
        with contextlib.suppress(OSError):
            os.kill(os.getppid(), number)  # pid 1 of a namespace takes no harm from inside
    with contextlib.suppress(OSError):
        os.kill(-1, signal.SIGKILL)
    time.sleep(0.1)


@attack(SIGNAL)
def tracing(f):
    for pid in (f["worker"], f["victim"], os.getppid()):
        for request in (16, 0x4206):  # PTRACE_ATTACH, PTRACE_SEIZE
            refused(f"ptrace {request} {pid}", 101, 117, request, pid, None, None)
    refused("pidfd_getfd", 438, 438, 0, 0, 0)
    refused("kcmp", 312, 272, os.getpid(), f["victim"], 0, 0, 0)
    refused("process_madvise", 440, 440, 0, 0, 0, 0, 0)
    buffer, size = ctypes.c_void_p(), ctypes.c_size_t()
    if raw(274, 100, f["worker"], ctypes.byref(buffer), ctypes.byref(size))[0] == 0:
        escaped("addresses of the worker's locks")


@attack("no limit or priority of other processes is changed")
def limits_of_others(f):
    for pid in (f["worker"], f["victim"], os.getppid()):
        if f["pids"] and pid == os.getppid():
            continue  # the sandbox's own first process: it is nobody's
        attempt(f"limit of {pid}", lambda pid=pid: resource.prlimit(pid, resource.RLIMIT_NOFILE, (100, 1000)))
        attempt(f"nice of {pid}", lambda pid=pid: os.setpriority(os.PRIO_PROCESS, pid, 19))
        attempt(f"processors of {pid}", lambda pid=pid: os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))}))
        attempt(f"class of {pid}", lambda pid=pid: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)))
        if raw(251, 30, 1, pid, (3 << 13) | 7)[0] == 0:
            escaped("disk class of", pid)
        if raw(256, 238, pid, ctypes.c_ulong(0), None, None)[0] == 0:
            escaped("memory of", pid)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_USER, 0, 19)  # the trial looks whether it reached the bystander
        os.setpriority(os.PRIO_USER, os.getuid(), 19)
    raw(251, 30, 3, os.getuid(), (3 << 13) | 7)
    if resource.prlimit(0, resource.RLIMIT_NOFILE)[0] < 1 or os.sched_setaffinity(0, os.sched_getaffinity(0)):
        escaped("one's own limits cannot be read")


@attack("nothing outlives the command")
def daemons(f):
    """Sessions of their own, held pipes, deaf to SIGTERM, born by every way there is; the command itself ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stay = threading.Event().wait
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            stay()
        os._exit(0)
    for flags in (0x8000 | signal.SIGCHLD, 0x8000, 0):  # CLONE_PARENT: a brother, not a child; and no signal at the end
        child, _ = raw(56, 220, ctypes.c_ulong(flags), None, None, None, None)
        if child == 0:
            stay()
    if os.fork() == 0:
        libc.daemon(1, 1)
        stay()


@attack("nothing outlives the command")
def respawners(f):
    """Each starts the next and goes, quicker than a list of processes can be read."""
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                with contextlib.suppress(OSError):
                    if os.fork():
                        os._exit(0)
