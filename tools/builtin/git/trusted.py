"""git on the trusted side: the server's own bare repositories and the network. Never on a workspace.

What arrives here from a workspace is a bundle file, which is data; its objects are checked before they are kept.
"""

import os
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tools.builtin.git.hardening import command, environment
from tools.builtin.git.remotes import is_local
from tools.errors import ToolFailed

_KEEP_BYTES = 4 * 1024**2
_LOOK_S = 0.25
# A proxy and the certificates of a company are the host's business; git's own variables are not passed on.
_PASSED_ON = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO")
# The far end of a local remote runs as the remote's owner where we are root: its hooks do not become root, and its files
# stay its own. It inherits nothing, so that what a hook leaves running does not hold our locks.
_AS_OWNER = (
    "import os,sys;u,g=int(sys.argv[1]),int(sys.argv[2]);os.closerange(3,4096);os.chdir('/')\n"
    "if os.geteuid()==0:os.setgroups([]);os.setresgid(g,g,g);os.setresuid(u,u,u)\n"
    "os.execv(sys.argv[3],sys.argv[3:])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """exit_code, and output cut to 4 MiB a stream."""

    exit_code: int
    stdout: str
    stderr: str


def run(
    *arguments: str,
    git_dir: Path,
    url: str = "",
    login: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    stdin: IO[bytes] | None = None,
    holding: int | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    timeout_s: float = 600.0,
) -> Finished:
    """Runs git on one of the server's own bare repositories.

    url: the remote that the command speaks to, "" for none; no other protocol than its own is allowed. login: variables that
    let it in there (`credentials.header_options`). holding: the descriptor of
    a lock that stays held until git has ended, even if this process dies.

    Raises:
        ToolFailed: out of time (transient), or `cancelled` said so.
    """
    protocol = "none" if not url else "file" if is_local(url) else "https"
    settings = {**(options or {}), **({f"protocol.{protocol}.allow": "always"} if url else {})}
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent", **environment(protocols=protocol)}
    if protocol == "https":
        env |= {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        env |= login or {}
    process = subprocess.Popen(
        command(arguments, git_dir=git_dir, work_tree=None, options=settings),
        stdin=stdin if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=git_dir,
        pass_fds=() if holding is None else (holding,),
        start_new_session=True,
    )
    try:
        stdout, stderr = _drain(process, time.monotonic() + timeout_s, cancelled)
        return Finished(exit_code=process.wait(), stdout=stdout, stderr=stderr)
    except TimeoutError:
        raise ToolFailed(f"git {arguments[0]} took longer than {timeout_s:.0f} s.", transient=True) from None
    except InterruptedError:
        raise ToolFailed(f"git {arguments[0]} was stopped: cancelled.", ended_by="cancelled") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def far_end(url: str, program: str) -> list[str]:
    """Options that run `program` (upload-pack, receive-pack) of a local remote on its own terms: as the remote's
    owner where the server is root, and without our descriptors. For https there is nothing to add."""
    if not is_local(url):
        return []
    try:
        owner = os.stat(url)
    except OSError:
        return []
    argv = [sys.executable, "-I", "-S", "-c", _AS_OWNER, str(owner.st_uid), str(owner.st_gid)]
    argv += [shutil.which("git") or "/usr/bin/git", program]
    return [f"--{program}={shlex.join(argv)}"]


def _drain(process: subprocess.Popen[bytes], deadline: float, cancelled: Callable[[], bool]) -> tuple[str, str]:
    kept: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
    with selectors.DefaultSelector() as selector:
        assert process.stdout is not None and process.stderr is not None
        selector.register(process.stdout, selectors.EVENT_READ, "stdout")
        selector.register(process.stderr, selectors.EVENT_READ, "stderr")
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if cancelled():
                raise InterruptedError
            for key, _ in selector.select(min(left, _LOOK_S)):
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(key.fileobj)
                buffer = kept[key.data]
                buffer += chunk[: max(0, _KEEP_BYTES - len(buffer))]
    return kept["stdout"].decode("utf-8", "replace"), kept["stderr"].decode("utf-8", "replace")
