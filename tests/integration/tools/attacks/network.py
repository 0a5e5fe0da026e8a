"""Ways to speak to anything outside."""

import contextlib
import socket
import subprocess
import sys

from tests.integration.tools.attacks.common import attack, attempt, escaped, raw

SOCKET = "no socket of any kind"


@attack(SOCKET)
def sockets(f):
    families = {"unix": 1, "inet": 2, "inet6": 10, "netlink": 16, "packet": 17, "alg": 38, "vsock": 40, "xdp": 44}
    for name, family in families.items():
        for kind in (1, 2, 3, 5):
            attempt(f"socket {name} {kind}", lambda family=family, kind=kind: socket.socket(family, kind).close())
    one, other = socket.socketpair()
    one.send(b"x")
    if other.recv(1) != b"x":
        escaped("a pair of sockets does not work")


@attack(SOCKET)
def connections(f):
    """Nothing may arrive: the trial looks at the other ends, too."""
    hosts = (("127.0.0.1", f["tcp"]), ("::ffff:127.0.0.1", f["tcp"]), ("localhost", f["tcp"]))
    for host in hosts:
        attempt(f"tcp {host}", lambda host=host: socket.create_connection(host, 2).send(b"ESCAPED"))

    def send(family, kind, address):
        with contextlib.suppress(AttributeError):
            socket.socket(family, kind).sendto(b"ESCAPED", address)

    attempt("udp", lambda: send(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", f["udp"])))
    attempt("unix", lambda: socket.socket(socket.AF_UNIX).connect(f["stream"]))
    attempt("unix datagram", lambda: send(socket.AF_UNIX, socket.SOCK_DGRAM, f["datagram"]))
    attempt("abstract", lambda: socket.socket(socket.AF_UNIX).connect("\0" + f["abstract"] + "stream"))
    for path in ("/var/run/docker.sock", "/run/systemd/private", "/run/dbus/system_bus_socket", "/dev/log"):
        attempt(path, lambda path=path: socket.socket(socket.AF_UNIX).connect(path))
    attempt("resolver", lambda: socket.getaddrinfo("example.com", 80))


@attack(SOCKET)
def pairs_sent_elsewhere(f):
    """One end of a pair is a socket already: a datagram's can be sent to any address, a connected one must not."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        for address in (f["datagram"], f["stream"], *("\0" + f["abstract"] + end for end in ("stream", "datagram"))):
            try:
                one, other = socket.socketpair(socket.AF_UNIX, kind)
            except OSError:
                break
            with one, other:
                attempt(f"connect {kind} {address!r}", lambda one=one, address=address: one.connect(address))
                if kind == socket.SOCK_DGRAM:
                    attempt(f"send to {address!r}", lambda one=one, address=address: one.sendto(b"ESCAPED", address))
                attempt("listen", lambda one=one: one.bind(f["inside"] + f"/bound-{id(one)}") or one.listen())
    for family in (2, 10, 16, 40):
        attempt(f"pair of {family}", lambda family=family: socket.socketpair(family, socket.SOCK_DGRAM))


@attack(SOCKET)
def rings(f):
    for number in (425, 426, 427):
        result, error = raw(number, number, 8, 0, 0, 0, 0, 0)
        if result >= 0 or error != 1:
            escaped("io_uring", number, error)


@attack(SOCKET)
def children_too(f):
    """What holds for the command holds for what it starts."""
    code = "import socket\ntry:\n    socket.socket()\n    print('ESCAPED socket')\nexcept OSError:\n    pass\n"
    code += f"try:\n    open({f['outside'] + '/secret'!r})\n    print('ESCAPED secret')\nexcept OSError:\n    pass\n"
    print(subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout)
