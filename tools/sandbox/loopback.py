"""A network of the command's own with one listener in it: the egress proxy's. Stdlib only.

The socket is made inside the command's network namespace and its descriptor goes out to the worker, which accepts on
it: whatever the command connects to there, it speaks to the worker's proxy and to nothing else.
"""

import array  # noqa: F401  socket.send_fds would import it when nothing can be read any more
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import time

from tools.sandbox import kernel
from tools.sandbox.confine import PROXY_PORT

_BACKLOG = 128
_READY_S = 10.0
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_NS_GET_USERNS = 0xB701


def bring_up() -> None:
    """Starts the loopback device of this process's network namespace. Takes CAP_NET_ADMIN over it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        asked = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, asked))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def hand_out(egress_fd: int) -> None:
    """Listens in this process's network namespace, sends the descriptor over `egress_fd`, and keeps neither.

    Raises:
        OSError
    """
    with (
        socket.socket(fileno=egress_fd) as channel,
        socket.create_server(("127.0.0.1", PROXY_PORT), backlog=_BACKLOG) as listener,
    ):
        socket.send_fds(channel, [b"1"], [listener.fileno()])


def hand_out_from_inside(told_fd: int, egress_fd: int) -> None:
    """The same in the network that bwrap makes, by a process that goes in for that moment.

    told_fd: bwrap's --info-fd. The command waits meanwhile (--block-fd).

    Raises:
        OSError: it did not come to that in time.
    """
    pid = _child_of_bwrap(told_fd)
    helper = os.fork()
    if helper == 0:
        signal.set_wakeup_fd(-1)
        code = errno.EIO
        try:
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            _go_inside(pid)
            _when_up(egress_fd)
            code = 0
        except OSError as error:
            code = error.errno or errno.EIO
        finally:
            os._exit(min(code, 255))
    code = os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1])
    if code:
        raise OSError(abs(code), f"the sandbox's network could not be entered: {os.strerror(abs(code))}")


def _child_of_bwrap(told_fd: int) -> int:
    said = b""
    deadline_s = time.monotonic() + _READY_S
    while True:
        if not select.select([told_fd], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
            raise TimeoutError(errno.ETIMEDOUT, "bwrap did not start in time")
        part = os.read(told_fd, 4096)
        said += part
        try:
            return int(json.loads(said)["child-pid"])
        except ValueError:
            if not part:
                raise OSError(errno.ECHILD, "bwrap ended before it had begun") from None


def _go_inside(pid: int) -> None:
    """Joins the network namespace of `pid`, by way of the user namespace that owns it."""
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    owner = fcntl.ioctl(network, _NS_GET_USERNS)
    kernel.set_namespace(owner, kernel.CLONE_NEWUSER)
    kernel.set_namespace(network, kernel.CLONE_NEWNET)


def _when_up(egress_fd: int) -> None:
    """bwrap starts the device itself, at its own time."""
    deadline_s = time.monotonic() + _READY_S
    while True:
        try:
            return hand_out(os.dup(egress_fd))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > deadline_s:
                raise
        time.sleep(0.001)
