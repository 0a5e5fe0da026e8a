"""What every attack program begins with. Runs inside the sandbox, from stdin. Stdlib only.

An attack prints a line that starts with ESCAPED for each thing that worked and must not, and `tried` when it is through.
FACTS: inside, outside, readable, others (paths), target (a file whose attributes must stay), mounts, pids (does the tier
have a view, and process numbers, of its own), dropped (another user than the worker's), worker, victim (pids), tcp, udp
(ports), stream, datagram (paths of unix sockets), abstract (the beginning of two abstract names).
"""

import ctypes
import errno
import json
import platform
import sys

# In the words of the page "The sandbox"; every attack names one.
PROMISES = (
    "no file outside is written",
    "no file outside is read",
    "nothing outside is told of (names, sizes, times)",
    "no mode, owner, time or attribute outside is changed",
    "no secret of the server is seen",
    "no socket of any kind",
    "no signal or trace to other processes",
    "no limit or priority of other processes is changed",
    "no more rights than it has",
    "no part of the kernel that is not needed",
    "nothing outlives the command",
    "processes, memory, files, processor and output are bounded",
)

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
ATTACKS = {}
PROMISE_OF = {}


def attack(promise):
    """Marks a function as the attack on that promise."""

    def mark(function):
        assert promise in PROMISES, promise
        ATTACKS[function.__name__] = function
        PROMISE_OF[function.__name__] = promise
        return function

    return mark


def read(path):
    with open(path) as file:
        return file.read()


def escaped(*what):
    print("ESCAPED", *what, flush=True)


def attempt(what, action):
    """It must raise OSError."""
    try:
        action()
    except OSError:
        return
    escaped(what)


def raw(x86, arm, *arguments):
    """A system call by number: (result, errno)."""
    number = x86 if platform.machine() == "x86_64" else arm
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *arguments)
    return result, ctypes.get_errno()


def refused(what, x86, arm, *arguments, expected=errno.EPERM):
    """The filter must answer it, whatever the arguments."""
    result, number = raw(x86, arm, *arguments)
    if result >= 0 or number != expected:
        escaped(what, result, errno.errorcode.get(number))


def main():
    ATTACKS[sys.argv[1]](json.loads(sys.argv[2]))
    print("tried", flush=True)
