"""More rights, and parts of the kernel that no command needs."""

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import signal
import struct
import subprocess

from tests.integration.tools.attacks.common import attack, attempt, escaped, libc, refused

RIGHTS = "no more rights than it has"
KERNEL = "no part of the kernel that is not needed"


@attack(RIGHTS)
def privileges(f):
    for flag, name in (
        (0x10000000, "user"),
        (0x20000, "mount"),
        (0x40000000, "net"),
        (0x20000000, "pid"),
        (0x2000000, "cgroup"),
    ):
        refused(f"unshare {name}", 272, 97, ctypes.c_ulong(flag))
        refused(f"clone {name}", 56, 220, ctypes.c_ulong(flag | signal.SIGCHLD), None, None, None, None)
    refused("clone3", 435, 435, None, ctypes.c_size_t(0), expected=errno.ENOSYS)
    refused("setns", 308, 268, 0, 0)
    refused("mount", 165, 40, b"none", f["inside"].encode(), b"tmpfs", ctypes.c_ulong(0), None)
    refused("umount", 166, 39, b"/tmp", 2)
    refused("chroot", 161, 51, f["inside"].encode())
    refused("pivot_root", 155, 41, b".", b".")
    refused("open_tree", 428, 428, -100, b"/", 1)
    refused("move_mount", 429, 429, -1, b"", -100, b"/", 4)
    refused("fsopen", 430, 430, b"tmpfs", 0)
    refused("mount_setattr", 442, 442, -100, b"/", 0, None, 0)


@attack(RIGHTS)
def users(f):
    for number in (0, 1, 65534 if os.getuid() != 65534 else 1000):
        attempt(f"setuid {number}", lambda number=number: os.setuid(number))
        attempt(f"setgid {number}", lambda number=number: os.setgid(number))
        attempt(f"setresuid {number}", lambda number=number: os.setresuid(number, number, number))
    attempt("setgroups", lambda: os.setgroups([0]))
    if os.getuid() == 0 or os.geteuid() == 0 or os.getgid() == 0:
        escaped("runs as root")
    if f["dropped"] and set(os.getgroups()) - {os.getgid(), 65534}:
        escaped("groups", os.getgroups())
    if libc.prctl(39, 0, 0, 0, 0) != 1:
        escaped("no_new_privs is not set")
    header = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0), 8)
    sets = ctypes.create_string_buffer(24)
    if libc.capget(header, sets) or any(sets.raw):
        escaped("capabilities", sets.raw.hex())
    for path in ("/usr/bin/su", "/usr/bin/mount", "/usr/bin/newgrp", "/usr/bin/passwd"):
        if os.path.exists(path):
            code = 'exec "$0" --help >/dev/null 2>&1 & grep -h ^Uid: /proc/$!/status 2>/dev/null; wait'
            said = subprocess.run(
                ["sh", "-c", code, path], capture_output=True, text=True, check=False, timeout=20
            ).stdout
            if "\t0\t" in said:
                escaped("root by", path)


@attack(KERNEL)
def kernel_surface(f):
    for name, x86, arm in (
        ("keyctl", 250, 219),
        ("add_key", 248, 217),
        ("request_key", 249, 218),
        ("bpf", 321, 280),
        ("userfaultfd", 323, 282),
        ("perf_event_open", 298, 241),
        ("open_by_handle_at", 304, 265),
        ("kexec_load", 246, 104),
        ("init_module", 175, 105),
        ("finit_module", 313, 273),
        ("reboot", 169, 142),
        ("personality", 135, 92),
        ("syslog", 103, 116),
        ("quotactl", 179, 60),
        ("swapon", 167, 224),
        ("acct", 163, 89),
        ("fanotify_init", 300, 262),
    ):
        refused(name, x86, arm, 0, 0, 0, 0, 0)
    for name, x86, arm in (
        ("memfd_create", 319, 279),
        ("memfd_secret", 447, 447),
        ("shmget", 29, 194),
        ("msgget", 68, 186),
        ("semget", 64, 190),
        ("mq_open", 240, 180),
        ("a call of the future", 499, 499),
    ):
        refused(name, x86, arm, 0, 0, 0, 0, 0, expected=errno.ENOSYS)


@attack(KERNEL)
def other_ways_to_call(f):
    """The numbers of other architectures end the process, whatever they mean."""
    if platform.machine() != "x86_64":
        return

    def x32():
        libc.syscall(ctypes.c_long(0x40000000 | 39))

    def i386():
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()

    for name, way in (("x32", x32), ("i386", i386)):
        child = os.fork()
        if child == 0:
            way()
            os._exit(0)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            escaped(name, "call")


@attack(KERNEL)
def terminals_and_devices(f):
    for number, what in ((0x5412, "TIOCSTI"), (0x541C, "TIOCLINUX")):
        try:
            fcntl.ioctl(0, number, b"x")
        except OSError as error:
            if error.errno != errno.EPERM:
                escaped(what, error)
        else:
            escaped(what)
    attempt("a terminal", lambda: open("/dev/tty", "rb").close())
    for path in (
        "/dev/mem",
        "/dev/kmsg",
        "/dev/vda",
        "/dev/sda",
        "/dev/fuse",
        "/dev/kvm",
        "/dev/net/tun",
        "/dev/vsock",
    ):
        attempt(path, lambda path=path: open(path, "rb").close())
    attempt("mknod", lambda: os.mknod(f["inside"] + "/device", 0o020666, os.makedev(1, 1)))
    for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/sys/kernel/uevent_helper"):
        attempt(path, lambda path=path: open(path, "w").close())
