"""What the server knows: its files, its environment, its memory, its descriptors."""

import ctypes
import fcntl
import os
import socket

from tests.integration.tools.attacks.common import attack, attempt, escaped, read, refused

SECRET = "no secret of the server is seen"


@attack(SECRET)
def keys_and_settings(f):
    for path in (".env", "home/.ssh/id_ed25519", "home/.netrc", "home/.aws/credentials"):
        attempt(path, lambda path=path: read(f["outside"] + "/" + path))
    for path in ("/root/.ssh/id_rsa", "/etc/shadow", "/etc/gshadow", "/etc/ssh/ssh_host_ed25519_key"):
        attempt(path, lambda path=path: read(path))
    if os.environ.get("HOME") == f["outside"] + "/home":
        escaped("the server's home")


@attack(SECRET)
def worker_memory(f):
    for pid in (f["worker"], f["victim"], os.getppid(), 1):
        for what in ("environ", "mem", "maps", "auxv"):
            path = f"/proc/{pid}/{what}"
            try:
                with open(path, "rb") as file:
                    if what != "mem" and b"SECRET" in file.read():
                        escaped(path)
                    if what != "environ":
                        escaped(path)
            except OSError:
                pass
        attempt(f"/proc/{pid}/fd", lambda pid=pid: os.listdir(f"/proc/{pid}/fd"))
    buffer = ctypes.create_string_buffer(16)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 16)
    refused("process_vm_readv", 310, 270, f["victim"], vector, 1, vector, 1, 0)
    refused("process_vm_writev", 311, 271, f["victim"], vector, 1, vector, 1, 0)


@attack(SECRET)
def command_lines(f):
    """No process that can be seen holds the secret in its arguments or its environment."""
    try:
        numbers = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return
    for number in numbers:
        for what in ("cmdline", "environ"):
            try:
                with open(f"/proc/{number}/{what}", "rb") as file:
                    if b"SECRET" in file.read():
                        escaped(number, what)
            except OSError:
                pass


@attack(SECRET)
def descriptors(f):
    for number in range(3, 4096):
        try:
            os.fstat(number)
        except OSError:
            continue
        escaped("descriptor", number)
    for number in (1, 2):
        attempt(f"a socket as {number}", lambda number=number: socket.socket(fileno=os.dup(number)).getsockname())
    attempt("writing to what is read", lambda: os.write(0, b"x"))
    attempt("growing what is read", lambda: os.ftruncate(0, 1 << 20))
    attempt("unsealing", lambda: fcntl.fcntl(0, 1033, 0))


@attack(SECRET)
def environment(f):
    allowed = {"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TZ", "USER", "LOGNAME", "PWD", "OLDPWD", "SHLVL", "_",
               "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "GIT_CONFIG_NOSYSTEM", "GIT_ATTR_NOSYSTEM"}  # fmt: skip
    for name in set(os.environ) - allowed:
        escaped("environment", name)
