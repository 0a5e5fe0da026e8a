"""Landlock: which files this process and its children may touch, for good (see landlock(7)). Stdlib only."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

from tools.sandbox.kernel import libc, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# From this ABI on a domain also stops signals and abstract unix sockets that lead out of it.
ABI_SCOPED = 6

_SYS_CREATE, _SYS_ADD, _SYS_RESTRICT = 444, 445, 446
_RULE_PATH, _RULE_PORT = 1, 2
_CONNECT_TCP = 2

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO = (1 << bit for bit in (7, 8, 9, 10))
_MAKE_SYM, _REFER, _TRUNCATE, _IOCTL_DEV = (1 << bit for bit in (12, 13, 14, 15))

_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
READ = _EXECUTE | _READ_FILE | _READ_DIR
WRITE = (
    READ
    | _WRITE_FILE
    | _REMOVE_DIR
    | _REMOVE_FILE
    | _MAKE_DIR
    | _MAKE_REG
    | _MAKE_SOCK
    | _MAKE_FIFO
    | _MAKE_SYM
    | _REFER
    | _TRUNCATE
)
DEVICE = _READ_FILE | _WRITE_FILE

# How many of the file rights each ABI knows; later ABIs keep those of 5.
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}


def abi() -> int:
    """The kernel's Landlock version; 0 where it has none."""
    version = libc.syscall(ctypes.c_long(_SYS_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint(1))
    return max(0, int(version))


def restrict(*, read: Iterable[str], write: Iterable[str], devices: Iterable[str], connect: Iterable[int] = ()) -> None:
    """Denies every file that is not below one of these paths. Paths that do not exist are left out.

    Also denies TCP but to the ports in `connect` (from ABI 4), and signals and abstract unix sockets to the outside (from ABI 6).

    Raises:
        OSError: ENOSYS where the kernel has no Landlock.
    """
    version = abi()
    if not version:
        raise OSError(errno.ENOSYS, "landlock is not available")
    handled = (1 << _RIGHTS.get(version, 16)) - 1
    fields = struct.pack("QQQ", handled, 3 if version >= 4 else 0, 3 if version >= ABI_SCOPED else 0)
    size = 8 if version < 4 else 16 if version < ABI_SCOPED else 24
    attributes = ctypes.create_string_buffer(fields[:size], size)
    ruleset = syscall("landlock_create_ruleset", _SYS_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint(0))
    for paths, rights in ((read, READ), (write, WRITE), (devices, DEVICE)):
        for path in paths:
            _allow(ruleset, path, rights & handled)
    for port in connect if version >= 4 else ():
        rule = ctypes.create_string_buffer(struct.pack("QQ", _CONNECT_TCP, port), 16)
        syscall("landlock_add_rule", _SYS_ADD, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PORT), rule, ctypes.c_uint(0))
    syscall("landlock_restrict_self", _SYS_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint(0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        rights &= _ON_FILES
    rule = ctypes.create_string_buffer(struct.pack("<Qi", rights, descriptor), 12)
    syscall(
        f"landlock_add_rule {path}", _SYS_ADD, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH), rule, ctypes.c_uint(0)
    )
    os.close(descriptor)
