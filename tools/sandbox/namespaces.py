"""The `ns` tier: user, pid, mount, network, ipc and uts namespaces by bare system calls, Landlock and seccomp inside.

Stdlib only. The supervisor enters the user namespace and forks the first process of the pid namespace; that one builds
the view of the file system, forks the command, and reaps whatever is orphaned to it. When it dies the kernel kills
every process of the namespace, which is what makes "no survivors" certain here.
"""

from __future__ import annotations

import os
import stat

from tools.sandbox import confine, kernel
from tools.sandbox.light import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_PRIVATE = {"/tmp": "size=64m,mode=1777", "/dev/shm": "size=64m,mode=1777"}


def enter_user_namespace() -> None:
    """A user namespace in which this process is itself, and a pid namespace for its next child."""
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    kernel.unshare(kernel.CLONE_NEWPID)


def build_view(spec: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Everything read-only but the spec's `write` paths; a private /tmp, /dev/shm and /proc.

    Returns the further (readable, writable) paths that this made.
    """
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    writable = set(spec["write"])
    # Copies are taken before the tree turns read-only and before /tmp is hidden, and put back in their places after.
    copies = [
        (path, kernel.clone_mount(path), stat.S_ISDIR(os.stat(path).st_mode))
        for path in sorted({*writable, *spec["read"]}, key=len)
        if path in writable or _hidden(path)
    ]
    kernel.set_mount("/", add=kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID, recursive=True)
    read, write = [], []
    for path, options in _PRIVATE.items():
        if os.path.isdir(path):
            kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
            write.append(path)
    for path, copy, is_folder in copies:
        if _hidden(path):
            _make_place(path, is_folder=is_folder)
        kernel.attach_mount(copy, path)
        kernel.set_mount(
            path,
            add=kernel.MOUNT_ATTR_NOSUID | (0 if path in writable else kernel.MOUNT_ATTR_RDONLY),
            clear=kernel.MOUNT_ATTR_RDONLY if path in writable else 0,
        )
    for path in spec["read"]:
        if any(path.startswith(outer + "/") for outer in writable) and not _hidden(path):
            kernel.attach_mount(kernel.clone_mount(path), path)
            kernel.set_mount(path, add=kernel.MOUNT_ATTR_RDONLY)
    try:
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        read.append("/proc")
    except OSError:
        pass  # containers mask parts of /proc and then refuse a new one; Landlock keeps the old one shut
    return read, write


def _hidden(path: str) -> bool:
    return any(path.startswith(private + "/") for private in _PRIVATE)


def _make_place(path: str, *, is_folder: bool) -> None:
    if is_folder:
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def first_process(spec: dict[str, Any], report: Callable[..., None], egress_fd: int | None = None) -> NoReturn:
    """Pid 1 of the namespace: builds the view, starts the command, reaps until it ends. egress_fd: where the socket goes
    that listens for the egress proxy, None where there is no network."""
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        read, write = build_view(spec)
        if egress_fd is not None:
            from tools.sandbox import loopback

            loopback.bring_up()
            loopback.hand_out(egress_fd)
        command = os.fork()
        if command == 0:
            try:
                confine.become_command(spec, read=read, write=write)
            except BaseException as error:
                report(setup_error=repr(error))
                os._exit(126)
        kernel.drop_capabilities()
        kernel.no_new_privileges()
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        while True:
            pid, status = os.wait()
            if pid == command:
                report(**outcome(status))
                os._exit(0)
    except BaseException as error:
        report(setup_error=repr(error))
    os._exit(125)


def outcome(status: int) -> dict[str, int | None]:
    """`exit` and `signal` of a wait status; one of them is None."""
    if os.WIFSIGNALED(status):
        return {"exit": None, "signal": os.WTERMSIG(status)}
    return {"exit": os.WEXITSTATUS(status), "signal": None}
