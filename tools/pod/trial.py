"""What a pod's trial must show besides what every tier's does: that it has no network at all."""

import os
from pathlib import Path

from tools.pod import config
from tools.sandbox.environment import base_environment
from tools.sandbox.output import Unfiltered
from tools.sandbox.process import Bounds, Confinement, run

_BOUNDS = Bounds(timeout_s=60.0, output_head_bytes=4096, output_tail_bytes=4096, output_kill_bytes=65536)
# A container without a network has the loopback interface alone.
_INTERFACES = """
sed -n 's/^ *\\([^ :]*\\):.*/\\1/p' /proc/net/dev | grep -v '^lo$'
echo done
"""
# A pod has an address always; what it can reach is its network policy's. $1, $2: the cluster's own API.
_CONNECT = """
if command -v python3 > /dev/null; then
    python3 -I -S -c 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)' "$1" "$2" \\
        2> /dev/null && echo "the API of the cluster"
elif command -v curl > /dev/null; then
    curl -s -k -m 3 "https://$1:$2/" > /dev/null && echo "the API of the cluster"
else
    echo "no client to try it with"
fi
echo done
"""


def network_why(confinement: Confinement, inside: Path) -> str:
    """Why the network is not as closed as it must be, "" where it is.

    Raises:
        SetupFailed
    """
    if config.current().engine == "kubernetes":
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "")
        if not host:
            return "this worker runs outside the cluster, so it cannot be tried what its pods reach"
        argv = ["/bin/sh", "-c", _CONNECT, "sh", host, port]
    else:
        argv = ["/bin/sh", "-c", _INTERFACES]
    outcome = run(
        argv,
        cwd=str(inside),
        env=base_environment(home=inside, scratch=inside),
        stdin=b"",
        confinement=confinement,
        bounds=_BOUNDS,
        redactor=Unfiltered,
    )
    *found, last = outcome.stdout.split("\n")[:-1] or [""]
    if last != "done":
        return f"the trial of the network ended with {outcome.exit_code}: {(outcome.stdout + outcome.stderr)[-200:]}"
    return f"reaches a network: {', '.join(found)}" if found else ""
