"""Whether a tier's network holds: a command that may reach one host tries to reach more."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from tools.egress.connect import Allowlist, Connections, Exceptions
from tools.egress.proxy import Proxy, environment
from tools.sandbox.environment import base_environment
from tools.sandbox.output import Unfiltered
from tools.sandbox.process import Bounds, Confinement, run

_HOST = "probe.invalid"  # never looked up (RFC 6761); only the proxy of the trial knows it
_BOUNDS = Bounds(timeout_s=20.0, output_head_bytes=4096, output_tail_bytes=4096, output_kill_bytes=65536)
# $1: a port of the worker's that must stay unreached; $2: the port of the host that may be reached.
_ATTEMPT = """
if command -v python3 > /dev/null; then
    exec python3 -I -S - "$1" "$2"
elif command -v curl > /dev/null; then
    curl -s -m 5 --noproxy '*' "http://127.0.0.1:$1/" > /dev/null && echo escaped by socket
    curl -s -m 5 -f "http://127.0.0.1:$1/" > /dev/null && echo escaped by the proxy
    curl -s -m 5 "http://probe.invalid:$2/"
else
    echo no client
fi
"""
_PROGRAM = b"""
import socket, sys
closed, open_ = int(sys.argv[1]), int(sys.argv[2])
def tried(what, action):
    try:
        action()
        print("escaped by", what)
    except OSError:
        pass
def asked(target):
    with socket.create_connection(("127.0.0.1", 3128), 5) as proxy:
        proxy.sendall(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n".encode())
        return proxy.makefile("rb").read()
tried("socket", lambda: socket.create_connection(("127.0.0.1", closed), 2))
for family, kind in ((socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_INET6, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_STREAM)):
    tried(f"a socket of family {family} and kind {kind}", lambda: socket.socket(family, kind))
if b" 200 " in asked(f"127.0.0.1:{closed}").split(b"\\r\\n")[0]:
    print("escaped by the proxy")
print(asked(f"probe.invalid:{open_}").split(b"\\r\\n\\r\\n")[-1].decode())
"""


def why_not(confinement: Confinement, inside: Path) -> str:
    """Why the network of this confinement does not hold, or cannot be used; "" where it does and can.

    Raises:
        SetupFailed, OSError
    """
    with socket.create_server(("127.0.0.1", 0)) as closed, _answering() as port:
        allow = Allowlist.parse([f"{_HOST}:{port}"])
        known = Exceptions.parse([f"127.0.0.1:{port}"])
        with Proxy(allow, Connections(), exceptions=known, resolver=lambda host, port: ["127.0.0.1"]) as proxy:
            ended = run(
                ["/bin/sh", "-c", _ATTEMPT, "sh", str(closed.getsockname()[1]), str(port)],
                cwd=str(inside),
                env={**base_environment(home=inside, scratch=inside), **environment()},
                stdin=_PROGRAM,
                confinement=confinement,
                bounds=_BOUNDS,
                redactor=Unfiltered,
                egress_fd=proxy.handover_fd,
            )
        closed.setblocking(False)
        escaped = [line for line in ended.stdout.splitlines() if line.startswith("escaped")]
        with contextlib.suppress(BlockingIOError):
            closed.accept()[0].close()
            escaped.append("escaped by a connection")
    if escaped:
        return "does not hold: " + ", ".join(dict.fromkeys(escaped))
    if ended.stdout.strip() == "no client":
        return "cannot be tried without python3 or curl"
    if ended.exit_code != 0 or ended.stdout.strip() != "reached" or not ended.clean:
        return f"the trial ended with {ended.exit_code}: {(ended.stdout + ended.stderr).strip()[-300:]}"
    return ""


@contextlib.contextmanager
def _answering() -> Iterator[int]:
    """A server that says "reached" to who connects, whatever is asked."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nreached")

        thread = threading.Thread(target=serve, name="egress-probe", daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(2.0)
