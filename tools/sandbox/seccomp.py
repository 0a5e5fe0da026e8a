"""The system call filter, assembled by hand as classic BPF. Stdlib only; x86_64 and aarch64.

Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux.
"""

import ctypes
import errno
import os
import struct

from tools.sandbox.kernel import check, libc

# name: (x86_64, aarch64); None where the architecture has no such call. Answered with EPERM.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "listmount": (458, 458),
    "lookup_dcookie": (212, 18),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "statmount": (457, 457),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
# Memory that no process's size shows, or that outlives it: not offered, so that callers fall back.
_ABSENT: dict[str, tuple[int, int]] = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "semget": (64, 190),
    "shmget": (29, 194),
    "clone3": (435, 435),  # its flags lie in memory, where a filter cannot look; libc falls back to clone
}
# Watching needs no right to read under Landlock, and tells names: only where the command sees nothing but its own files.
_WATCHING: dict[str, tuple[int | None, int | None]] = {"inotify_init": (253, None), "inotify_init1": (294, 26)}
# Settings of a process by its number, the first argument; 0 is the caller.
_OF_OTHERS: dict[str, tuple[int, int]] = {
    "migrate_pages": (256, 238),
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
}
# The same by (kind, number), with the kind that means everything of this user.
_OF_KINDS: dict[str, tuple[int, int, int]] = {"setpriority": (141, 140, 2), "ioprio_set": (251, 30, 3)}
# The first number that this file does not know: later calls are absent until someone has judged them.
_CEILING = 463

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_SPECIAL = {  # judged by an argument
    "socket": (41, 198),
    "socketpair": (53, 199),
    "clone": (56, 220),
    "ioctl": (16, 29),
}

_AF_UNIX = 1
_AF_INET, _TCP = 2, 6
_SOCK_STREAM, _SOCK_SEQPACKET, _SOCK_MASK = 1, 5, 0xF
_CLONE_NEW = 0x7E020000  # every CLONE_NEW* that clone(2) takes
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_X32_BIT = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _BITS, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCH, _ARGUMENT_0, _ARGUMENT_1, _ARGUMENT_2 = (
    0,
    4,
    16,
    24,
    32,
)  # offsets in struct seccomp_data, little endian


def supported() -> bool:
    """Is there a table for this machine?"""
    return os.uname().machine in _ARCHITECTURES


def program(tier: str = "ll", *, network: bool = False) -> bytes:
    """The filter, as the `struct sock_filter` array that seccomp(2) and bwrap's --seccomp take.

    What the tier's namespaces already keep away is left to them: other processes' settings in "bwrap" and "ns", watching
    files in "bwrap". network: TCP sockets over IPv4 may be made, for a network namespace in which nothing but the egress
    proxy listens.

    Raises:
        OSError: ENOSYS on an architecture without a table.
    """
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no system call table for {machine}")
    column, audit_arch = _ARCHITECTURES[machine]
    code: list[tuple[int, int, int, int]] = []

    def do(operation: int, value: int) -> None:
        code.append((operation, 0, 0, value))

    def jump(operation: int, value: int, yes: int, no: int) -> None:
        code.append((operation, yes, no, value))

    def answer(number: int, verdict: int) -> None:
        jump(_EQUAL, number, 0, 1)
        do(_RETURN, verdict)

    refused, absent = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    do(_LOAD, _ARCH)
    jump(_EQUAL, audit_arch, 1, 0)
    do(_RETURN, _KILL)
    do(_LOAD, _NUMBER)
    if machine == "x86_64":
        jump(_AT_LEAST, _X32_BIT, 0, 1)
        do(_RETURN, _KILL)
    jump(_AT_LEAST, _CEILING, 0, 1)
    do(_RETURN, absent)
    for numbers in _DENIED.values():
        denied = numbers[column]
        if denied is not None:
            answer(denied, refused)
    for present in _ABSENT.values():
        answer(present[column], absent)
    if tier != "bwrap":
        for watching in _WATCHING.values():
            number = watching[column]
            if number is not None:
                answer(number, absent)
    if tier == "ll":
        for others in _OF_OTHERS.values():
            jump(_EQUAL, others[column], 0, 4)
            do(_LOAD, _ARGUMENT_0)
            jump(_EQUAL, 0, 1, 0)
            do(_RETURN, refused)
            do(_RETURN, _ALLOW)
        for kinds in _OF_KINDS.values():
            jump(_EQUAL, kinds[column], 0, 6)
            do(_LOAD, _ARGUMENT_0)
            jump(_EQUAL, kinds[2], 2, 0)
            do(_LOAD, _ARGUMENT_1)
            jump(_EQUAL, 0, 1, 0)
            do(_RETURN, refused)
            do(_RETURN, _ALLOW)
    if network:
        jump(_EQUAL, _SPECIAL["socket"][column], 0, 10)
        do(_LOAD, _ARGUMENT_0)
        jump(_EQUAL, _AF_INET, 0, 6)
        do(_LOAD, _ARGUMENT_1)
        do(_AND, _SOCK_MASK)
        jump(_EQUAL, _SOCK_STREAM, 0, 3)
        do(_LOAD, _ARGUMENT_2)
        jump(_EQUAL, 0, 2, 0)
        jump(_EQUAL, _TCP, 1, 0)
        do(_RETURN, refused)
        do(_RETURN, _ALLOW)
    else:
        answer(_SPECIAL["socket"][column], refused)
    # A datagram socket of a pair can be sent elsewhere: to any socket that has a path. The connected kinds cannot.
    jump(_EQUAL, _SPECIAL["socketpair"][column], 0, 8)
    do(_LOAD, _ARGUMENT_0)
    jump(_EQUAL, _AF_UNIX, 0, 4)
    do(_LOAD, _ARGUMENT_1)
    do(_AND, _SOCK_MASK)
    jump(_EQUAL, _SOCK_STREAM, 2, 0)
    jump(_EQUAL, _SOCK_SEQPACKET, 1, 0)
    do(_RETURN, refused)
    do(_RETURN, _ALLOW)
    jump(_EQUAL, _SPECIAL["clone"][column], 0, 4)
    do(_LOAD, _ARGUMENT_0)
    jump(_BITS, _CLONE_NEW, 0, 1)
    do(_RETURN, refused)
    do(_RETURN, _ALLOW)
    jump(_EQUAL, _SPECIAL["ioctl"][column], 0, 5)
    do(_LOAD, _ARGUMENT_1)
    jump(_EQUAL, _TIOCSTI, 1, 0)
    jump(_EQUAL, _TIOCLINUX, 0, 1)
    do(_RETURN, refused)
    do(_RETURN, _ALLOW)
    do(_RETURN, _ALLOW)
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def install(code: bytes) -> None:
    """Puts the filter on this thread and all that it starts. Needs no_new_privs."""
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = _Program(len(code) // 8, ctypes.addressof(buffer))
    check(
        libc.prctl(ctypes.c_int(22), ctypes.c_ulong(2), ctypes.byref(filter_), ctypes.c_ulong(0), ctypes.c_ulong(0)),
        "seccomp",
    )
