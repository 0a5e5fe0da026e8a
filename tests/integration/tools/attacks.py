"""Attack programs. Runs inside the sandbox, from stdin: `python3 -I -S - NAME FACTS`. Stdlib only.

An attack prints a line that starts with ESCAPED for each thing that worked and must not, and `tried` when it is through.
FACTS: inside, outside (paths), worker, victim (pids), tcp, udp (ports), unix (path), abstract (name).
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
ATTACKS = {}


def attack(function):
    ATTACKS[function.__name__] = function
    return function


def read(path):
    with open(path) as file:
        return file.read()


def attempt(what, action):
    try:
        action()
    except OSError:
        return
    print("ESCAPED", what)


def raw(x86, arm, *arguments):
    number = x86 if platform.machine() == "x86_64" else arm
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *arguments)
    return result, ctypes.get_errno()


def refused(what, x86, arm, *arguments, expected=errno.EPERM):
    result, number = raw(x86, arm, *arguments)
    if result >= 0 or number != expected:
        print("ESCAPED", what, result, errno.errorcode.get(number))


@attack
def write_outside(f):
    out = f["outside"]
    attempt("new file", lambda: open(out + "/new", "w").close())
    attempt("append", lambda: open(out + "/secret", "a").close())
    attempt("truncate", lambda: os.truncate(out + "/secret", 0))
    attempt("folder", lambda: os.mkdir(out + "/folder"))
    attempt("unlink", lambda: os.unlink(out + "/secret"))
    attempt("fifo", lambda: os.mkfifo(out + "/fifo"))
    for place in ("/etc", "/usr", "/var", "/dev", "/"):
        attempt("file in " + place, lambda place=place: open(place + "/countersign-attack", "w").close())


@attack
def read_outside(f):
    attempt("secret", lambda: read(f["outside"] + "/secret"))
    attempt("listing", lambda: os.listdir(f["outside"]))
    attempt("shadow", lambda: read("/etc/shadow"))
    attempt("root's home", lambda: os.listdir("/root"))


@attack
def links(f):
    inside, out = f["inside"], f["outside"]
    os.symlink(out + "/secret", inside + "/link")
    attempt("read by symlink", lambda: read(inside + "/link"))
    attempt("write by symlink", lambda: open(inside + "/link", "a").close())
    os.symlink(out, inside + "/folder-link")
    attempt("write by folder symlink", lambda: open(inside + "/folder-link/new", "w").close())
    attempt("hard link in", lambda: os.link(out + "/secret", inside + "/hard"))
    open(inside + "/mine", "w").close()
    attempt("hard link out", lambda: os.link(inside + "/mine", out + "/hard"))


@attack
def renames(f):
    inside, out = f["inside"], f["outside"]
    open(inside + "/moved", "w").close()
    os.mkdir(inside + "/moved-folder")
    attempt("rename out", lambda: os.rename(inside + "/moved", out + "/moved"))
    attempt("rename a folder out", lambda: os.rename(inside + "/moved-folder", out + "/moved-folder"))
    attempt("rename in", lambda: os.rename(out + "/secret", inside + "/secret"))


@attack
def read_only_part(f):
    attempt("write", lambda: open(f["readable"] + "/new", "w").close())
    attempt("remove", lambda: os.unlink(f["readable"] + "/given"))
    attempt("move away", lambda: os.rename(f["readable"], f["inside"] + "/taken"))
    attempt("chmod", lambda: os.chmod(f["readable"] + "/given", 0o777)) if f["mounts"] else None
    if read(f["readable"] + "/given") != "given":
        print("ESCAPED: what was given cannot be read")


@attack
def attributes(f):
    """Landlock alone does not stop these: there it takes another user, and with one user for all `probe` says so."""
    path = f["outside"] + "/secret" if f["mounts"] else f["others"]
    attempt("chmod", lambda: os.chmod(path, 0o777))
    attempt("utime", lambda: os.utime(path, (1, 1)))
    attempt("xattr", lambda: os.setxattr(path, "user.attack", b"x"))


@attack
def proc_paths(f):
    for pid in ("self", "1", str(os.getppid()), str(f["worker"]), str(f["victim"])):
        for what in ("root", "cwd"):
            attempt(
                f"/proc/{pid}/{what}",
                lambda pid=pid, what=what: read(f"/proc/{pid}/{what}{f['outside']}/secret"),
            )


@attack
def worker_memory(f):
    for pid in (f["worker"], f["victim"], os.getppid(), 1):
        for what in ("environ", "mem", "maps", "auxv"):
            path = f"/proc/{pid}/{what}"
            try:
                with open(path, "rb") as file:
                    if what != "mem" and b"SECRET" in file.read():
                        print("ESCAPED", path)
                    if what != "environ":
                        print("ESCAPED", path)
            except OSError:
                pass
        attempt(f"/proc/{pid}/fd", lambda pid=pid: os.listdir(f"/proc/{pid}/fd"))
    buffer = ctypes.create_string_buffer(16)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 16)
    refused("process_vm_readv", 310, 270, f["victim"], vector, 1, vector, 1, 0)


@attack
def descriptors(f):
    for number in range(3, 4096):
        try:
            os.fstat(number)
        except OSError:
            continue
        print("ESCAPED descriptor", number)
    for number in (1, 2):
        attempt(f"a socket as {number}", lambda number=number: socket.socket(fileno=os.dup(number)).getsockname())


@attack
def sockets(f):
    families = {"unix": 1, "inet": 2, "inet6": 10, "netlink": 16, "packet": 17, "alg": 38, "vsock": 40, "xdp": 44}
    for name, family in families.items():
        for kind in (1, 2, 3, 5):
            attempt(f"socket {name} {kind}", lambda family=family, kind=kind: socket.socket(family, kind).close())
    attempt("tcp", lambda: socket.create_connection(("127.0.0.1", f["tcp"]), 2).send(b"ESCAPED"))
    one, other = socket.socketpair()
    one.send(b"x")
    if other.recv(1) != b"x":
        print("ESCAPED: a pair of sockets does not work")


@attack
def signals(f):
    for pid in (f["worker"], f["victim"]):
        attempt(f"signal {pid}", lambda pid=pid: os.kill(pid, 0))
        attempt(f"kill {pid}", lambda pid=pid: os.kill(pid, signal.SIGKILL))
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.kill(os.getppid(), number)  # pid 1 of a namespace takes no harm from inside
    with contextlib.suppress(OSError):
        os.kill(-1, signal.SIGKILL)
    time.sleep(0.2)


@attack
def tracing(f):
    for pid in (f["worker"], f["victim"], os.getppid()):
        for request in (16, 0x4206):  # PTRACE_ATTACH, PTRACE_SEIZE
            refused(f"ptrace {request} {pid}", 101, 117, request, pid, None, None)
    refused("pidfd_getfd", 438, 438, 0, 0, 0)
    refused("kcmp", 312, 272, os.getpid(), f["victim"], 0, 0, 0)


@attack
def privileges(f):
    for flag, name in ((0x10000000, "user"), (0x20000, "mount"), (0x40000000, "net"), (0x20000000, "pid")):
        refused(f"unshare {name}", 272, 97, ctypes.c_ulong(flag))
        refused(f"clone {name}", 56, 220, ctypes.c_ulong(flag | signal.SIGCHLD), None, None, None, None)
    refused("clone3", 435, 435, None, ctypes.c_size_t(0), expected=errno.ENOSYS)
    refused("setns", 308, 268, 0, 0)
    refused("mount", 165, 40, b"none", f["inside"].encode(), b"tmpfs", ctypes.c_ulong(0), None)
    refused("umount", 166, 39, b"/tmp", 2)
    refused("chroot", 161, 51, f["inside"].encode())
    refused("pivot_root", 155, 41, b".", b".")
    refused("open_tree", 428, 428, -100, b"/", 1)
    attempt("setuid 0", lambda: os.setuid(0))
    attempt("setgroups", lambda: os.setgroups([0]))
    if libc.prctl(39, 0, 0, 0, 0) != 1:
        print("ESCAPED no_new_privs is not set")
    if os.getuid() == 0 or os.geteuid() == 0:
        print("ESCAPED runs as root")


@attack
def kernel_surface(f):
    for name, x86, arm in (
        ("keyctl", 250, 219),
        ("add_key", 248, 217),
        ("bpf", 321, 280),
        ("io_uring_setup", 425, 425),
        ("userfaultfd", 323, 282),
        ("perf_event_open", 298, 241),
        ("open_by_handle_at", 304, 265),
        ("kexec_load", 246, 104),
        ("init_module", 175, 105),
        ("reboot", 169, 142),
        ("personality", 135, 92),
    ):
        refused(name, x86, arm, 0, 0, 0, 0, 0)
    for name, x86, arm in (
        ("memfd_create", 319, 279),
        ("shmget", 29, 194),
        ("msgget", 68, 186),
        ("a call of the future", 499, 499),
    ):
        refused(name, x86, arm, 0, 0, 0, 0, 0, expected=errno.ENOSYS)
    try:
        fcntl.ioctl(0, 0x5412, b"x")
    except OSError as error:
        if error.errno != errno.EPERM:
            print("ESCAPED TIOCSTI", error)
    if platform.machine() == "x86_64":
        child = os.fork()
        if child == 0:
            libc.syscall(ctypes.c_long(0x40000000 | 39))
            os._exit(0)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            print("ESCAPED x32 call")


@attack
def devices(f):
    for path in ("/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/ptmx"):
        attempt(path, lambda path=path: open(path, "rb").close()) if path != "/dev/ptmx" else None
    attempt("mknod", lambda: os.mknod(f["inside"] + "/device", 0o020666, os.makedev(1, 1)))


@attack
def environment(f):
    allowed = {"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TZ", "USER", "LOGNAME", "PWD", "OLDPWD", "SHLVL", "_",
               "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}  # fmt: skip
    for name in set(os.environ) - allowed:
        print("ESCAPED environment", name)


@attack
def children_too(f):
    """What holds for the command holds for what it starts."""
    code = "import socket\ntry:\n    socket.socket()\n    print('ESCAPED socket')\nexcept OSError:\n    pass\n"
    code += f"try:\n    open({f['outside'] + '/secret'!r})\n    print('ESCAPED secret')\nexcept OSError:\n    pass\n"
    print(subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    ATTACKS[sys.argv[1]](json.loads(sys.argv[2]))
    print("tried", flush=True)
