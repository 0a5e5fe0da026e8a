"""A hostile program in a sandbox with network: `python egress_trial.py TIER FOLDER EGRESS_FD FACTS`.

A process of its own, so that it can be another user than the tests; the proxy is the tests', which pass its descriptor.
Needs the standard library and `tools.sandbox`. Prints what came of it as JSON.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.integration.tools.trial import confined, place, run_python
from tools.sandbox.harden import protect_process

# Prints a line that starts with ESCAPED for what worked and must not. Facts: tcp, udp (ports of the worker's), unix (path),
# abstract (name), open (the port that may be reached, of good.example).
ATTACK = b"""
import ctypes, json, os, socket, sys
f = json.loads(sys.argv[1])

def attempt(what, action):
    try:
        found = action()
    except OSError:
        return
    print("ESCAPED", what, found)

def asked(text):
    with socket.create_connection(("127.0.0.1", 3128), 20) as proxy:
        proxy.sendall(text.encode() + b"\\r\\n\\r\\n")
        said = b""
        try:
            while part := proxy.recv(65536):
                said += part
        except ConnectionError:
            pass
        return said

# directly
for host in ("127.0.0.1", "127.0.0.2", "0.0.0.0", "localhost", "169.254.169.254", "1.1.1.1", "10.0.0.1", "192.168.0.1"):
    for port in (f["tcp"], f["open"], 53, 80, 443):
        attempt(f"tcp {host}:{port}", lambda: socket.create_connection((host, port), 1).getpeername())
attempt("fast open", lambda: socket.socket().sendto(b"ESCAPED", 0x20000000, ("127.0.0.1", f["tcp"])))
for family in range(1, 46):
    for kind in (1, 2, 3, 4, 5, 6, 10):
        for protocol in (0, 1, 6, 17, 132, 136, 255, 262):
            if (family, kind, protocol) not in ((2, 1, 0), (2, 1, 6)):
                attempt(f"socket {family} {kind} {protocol}", lambda: socket.socket(family, kind, protocol).fileno())
attempt("udp", lambda: socket.socket(2, 2).sendto(b"ESCAPED", ("127.0.0.1", f["udp"])))
attempt("unix", lambda: socket.socket(1).connect(f["unix"]))
attempt("abstract", lambda: socket.socket(1).connect("\\0" + f["abstract"]))
for kind in (2, 3):
    attempt("pair", lambda: socket.socketpair(1, kind)[0].sendto(b"ESCAPED", f["unix"]))
attempt("name", lambda: socket.getaddrinfo("example.com", 443))
attempt("resolver", lambda: socket.create_connection(("127.0.0.53", 53), 1))
for name in ("fd", "ns"):
    for pid in ("1", str(os.getppid())):
        if pid != str(os.getpid()):
            attempt(f"/proc/{pid}/{name}", lambda: [os.readlink(f"/proc/{pid}/{name}/{e}") for e in os.listdir(f"/proc/{pid}/{name}")])
for number in range(3, 1024):
    attempt(f"descriptor {number}", lambda: os.fstat(number))
attempt("the proxy's place", lambda: socket.create_server(("127.0.0.1", 3128), reuse_port=True))
attempt("the proxy's place, shared", lambda: socket.create_server(("0.0.0.0", 3128)))

# by the proxy
port = f["open"]
targets = [f"127.0.0.1:{f['tcp']}", f"127.0.0.1:{port}", f"localhost:{port}", f"[::ffff:127.0.0.1]:{port}", f"[::1]:{port}",
    "169.254.169.254:80", "metadata.google.internal:80", "good.example:22", f"evil.example:{port}",
    f"2130706433:{port}", f"0x7f000001:{port}", f"127.1:{port}", f"good.example.:{f['tcp']}", f"rebound.example:{port}"]
for target in targets:
    said = asked(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}")
    if b" 403 " not in said[:20] and b" 400 " not in said[:20]:
        print("ESCAPED by CONNECT", target, said[:60])
for said in (asked(f"GET http://good.example:{port}@evil.example/ HTTP/1.1"), asked(f"GET http://good.example:{port}/ HTTP/1.1\\r\\nHost: evil.example"),
             asked(f"GET http://good.example:{port}/\\r\\nX: HTTP/1.1"), asked(f"GET http://rebound.example:{port}/ HTTP/1.1")):
    if b" 403 " not in said[:20] and b" 400 " not in said[:20]:
        print("ESCAPED by a request", said[:60])
said = asked(f"GET http://good.example:{port}/x HTTP/1.1\\r\\nHost: good.example:{port}\\r\\n\\r\\nGET /second HTTP/1.1\\r\\nHost: evil.example")
if not said.endswith(b"hello"):
    print("NOT REACHED", said[:200])
print("tried", flush=True)
"""


def main() -> None:
    tier, base, egress_fd, facts = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    protect_process()
    folder = Path(tempfile.mkdtemp(dir=base))
    folder.chmod(0o711)
    try:
        inside, identity = place(folder, "inside")
        confinement = confined(tier, identity, write=inside, network=True)
        ended = run_python(ATTACK, facts, inside=inside, confinement=confinement, egress_fd=egress_fd)
        print(json.dumps({"said": ended.stdout, "errors": ended.stderr, "exit": ended.exit_code, "clean": ended.clean}))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
