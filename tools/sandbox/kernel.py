"""System calls that the standard library does not offer. Linux only; stdlib only."""

import ctypes
import os
import struct

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REC = 0x4000
MS_PRIVATE = 0x40000

MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2

# The same numbers on every architecture since Linux 5.0's unified table.
SYS_OPEN_TREE = 428
SYS_MOVE_MOUNT = 429
SYS_CLOSE_RANGE = 436
SYS_OPENAT2 = 437
SYS_MOUNT_SETATTR = 442

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4


def check(result: int, what: str) -> int:
    """`result`, or OSError with the thread's errno where it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(what: str, number: int, *arguments: object) -> int:
    """A raw system call by number; raises OSError."""
    return check(libc.syscall(ctypes.c_long(number), *arguments), what)


def prctl(option: int, *arguments: int) -> int:
    """prctl(2); the result is not checked, as some options are missing on older kernels."""
    filled = [option, *arguments, 0, 0, 0, 0][:5]
    return int(libc.prctl(*[ctypes.c_ulong(value) for value in filled]))


def no_new_privileges() -> None:
    """From here on no exec gains privileges (setuid files are inert)."""
    check(prctl(PR_SET_NO_NEW_PRIVS, 1), "no_new_privs")


def drop_capabilities() -> None:
    """Empties every capability set, the bounding set as far as this process may."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(64):
        prctl(PR_CAPBSET_DROP, capability)
    header = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0), 8)
    check(libc.capset(header, ctypes.create_string_buffer(24)), "capset")


def unshare(flags: int) -> None:
    check(libc.unshare(ctypes.c_int(flags)), "unshare")


def set_namespace(descriptor: int, kind: int) -> None:
    """Joins the namespace (setns(2)); `kind` is its CLONE_NEW*."""
    check(libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if value is None else os.fsencode(value) for value in (source, target, kind, data)]
    check(
        libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]),
        f"mount {target}",
    )


def set_mount(path: str, *, add: int = 0, clear: int = 0, recursive: bool = False) -> None:
    """mount_setattr(2): adds and clears MOUNT_ATTR_* on the mount at `path`."""
    attributes = ctypes.create_string_buffer(struct.pack("QQQQ", add, clear, 0, 0), 32)
    flags = _AT_RECURSIVE if recursive else 0
    syscall(
        f"mount_setattr {path}",
        SYS_MOUNT_SETATTR,
        ctypes.c_int(_AT_FDCWD),
        os.fsencode(path),
        ctypes.c_uint(flags),
        attributes,
        ctypes.c_size_t(32),
    )


def clone_mount(path: str) -> int:
    """A descriptor of a detached copy of what is mounted at `path` and below (open_tree(2))."""
    return syscall(
        f"open_tree {path}",
        SYS_OPEN_TREE,
        ctypes.c_int(_AT_FDCWD),
        os.fsencode(path),
        ctypes.c_uint(_OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC),
    )


def attach_mount(descriptor: int, path: str) -> None:
    """Mounts what `clone_mount` gave at `path` (move_mount(2)) and closes the descriptor."""
    syscall(
        f"move_mount {path}",
        SYS_MOVE_MOUNT,
        ctypes.c_int(descriptor),
        b"",
        ctypes.c_int(_AT_FDCWD),
        os.fsencode(path),
        ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
    )
    os.close(descriptor)


def close_all_but(keep: set[int]) -> None:
    """Closes every descriptor from 3 up that is not in `keep`."""
    first = 3
    for descriptor in [*sorted(fd for fd in keep if fd >= 3), 1 << 31]:
        if descriptor > first:
            _close_range(first, descriptor - 1)
        first = descriptor + 1


def _close_range(first: int, last: int) -> None:
    if libc.syscall(ctypes.c_long(SYS_CLOSE_RANGE), ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(0)) < 0:
        os.closerange(first, min(last, 65536) + 1)
