"""Which tiers really hold on this machine: each runs a command that tries to get out, once a process."""

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tools.errors import SandboxUnavailable
from tools.pod import config as pods
from tools.pod import trial as podtrial
from tools.sandbox import landlock, netprobe
from tools.sandbox.environment import base_environment, interpreter_paths
from tools.sandbox.identity import Identity, identity_for
from tools.sandbox.output import Unfiltered
from tools.sandbox.process import Bounds, Confinement, Outcome, SetupFailed, run

# The best first.
TIERS = ("bwrap", "ns", "ll")
POD = "pod"  # before them all, where an engine is configured

_NONE = "No sandbox works here, so nothing runs. "
_FAILURE_KEPT_S = 60.0
_BOUNDS = Bounds(timeout_s=20.0, output_head_bytes=4096, output_tail_bytes=4096, output_kill_bytes=65536)
# $1: our folder; $2: a folder of the same user outside; $3: a port of the worker's that must stay unreached.
_ATTEMPT = """
echo inside > "$1/inside" && cat "$1/inside" || echo cannot write
cat "$2/secret" && echo escaped by reading
echo outside > "$2/outside" && echo escaped by writing
ln "$2/secret" "$1/link" && echo escaped by linking
if command -v python3 > /dev/null; then
    python3 -I -S -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2)' "$3" \
        && echo escaped by socket
fi
if command -v git > /dev/null; then
    GIT_CONFIG_NOSYSTEM=1 timeout 2 git ls-remote "git://127.0.0.1:$3/x" && echo escaped by git
fi
echo done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierReport:
    """name; does it hold; why not, or what it cannot do. network: with the network by allow-list."""

    name: str
    works: bool
    why: str = ""
    network: bool = False


class _Known:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.folder = Path(tempfile.gettempdir())
        self.reports: dict[tuple[str, bool], tuple[float, TierReport]] = {}


_known = _Known()


def use_folder(folder: Path) -> None:
    """Trials happen below this folder, where the workspaces are, so that they also prove that it can be reached."""
    with _known.lock:
        if folder != _known.folder:
            _known.folder = folder
            _known.reports.clear()


def tiers(*, network: bool = False) -> list[TierReport]:
    """Every tier, the best first; each is tried on the first question of this process."""
    return [report(name, network=network) for name in names()]


def names() -> tuple[str, ...]:
    """Those that are tried here, the best first."""
    return (POD, *TIERS) if pods.current().engine else TIERS


def best(*, network: bool = False) -> str:
    """The name of the best tier that holds; with SANDBOX_TIER in the environment, of that one if it holds. network: with
    the network by allow-list.

    Raises:
        SandboxUnavailable: the message says why for each tier.
    """
    forced = os.environ.get("SANDBOX_TIER", "")
    failed = []
    for name in (forced,) if forced else names():
        if name not in (*TIERS, POD):
            raise SandboxUnavailable(f"There is no sandbox tier {name!r}; there are {', '.join((*TIERS, POD))}.")
        found = report(name, network=network)
        if found.works:
            return name
        failed.append(f"{name}: {found.why}")
    what = "No sandbox offers a network here, so nothing that asks for one runs. " if network else _NONE
    raise SandboxUnavailable(what + "; ".join(failed))


def report(name: str, *, network: bool = False) -> TierReport:
    """One tier's report. That a tier holds is remembered; that it does not, for a minute: the machine may have been
    out of memory or processes. network: whether its network by allow-list holds too."""
    if network:
        plain = report(name)
        if not plain.works:
            return replace(plain, network=True)
    with _known.lock:
        now_s = time.monotonic()
        tried_s, found = _known.reports.get((name, network), (float("-inf"), None))
        if found is None or (not found.works and now_s - tried_s > _FAILURE_KEPT_S):
            found = (_try_network if network else _try)(name, _known.folder)
            _known.reports[name, network] = (now_s, found)
        return found


def forget() -> None:
    """The next question tries again."""
    with _known.lock:
        _known.reports.clear()


def _try(name: str, folder: Path) -> TierReport:
    if name == POD and (why := pods.current().why_not()):
        return TierReport(name=name, works=False, why=why)
    try:
        with _places(folder) as (inside, outside, identity), _listener() as port:
            outcome = _attempt(name, inside, outside, identity, port)
            escaped = [line for line in outcome.stdout.splitlines() if line.startswith("escaped")]
            if (outside / "outside").exists():
                escaped.append("escaped by writing")
            if name == POD and (why := podtrial.network_why(_confinement(name, inside, identity), inside)):
                escaped.append(why)
    except SetupFailed as error:
        return TierReport(name=name, works=False, why=str(error))
    except OSError as error:
        return TierReport(name=name, works=False, why=f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
    if escaped:
        return TierReport(name=name, works=False, why="does not hold: " + ", ".join(dict.fromkeys(escaped)))
    if outcome.exit_code != 0 or outcome.stdout.split() != ["inside", "done"] or not outcome.clean:
        said = (outcome.stdout + outcome.stderr).strip()[-300:]
        return TierReport(name=name, works=False, why=f"the trial ended with {outcome.exit_code}: {said}")
    return TierReport(name=name, works=True, why=_shortcomings(name, identity))


def _try_network(name: str, folder: Path) -> TierReport:
    if name in ("ll", POD):
        return TierReport(name=name, works=False, why="has no network of its own, so it offers none", network=True)
    try:
        with _places(folder) as (inside, _, identity):
            why = netprobe.why_not(_confinement(name, inside, identity, network=True), inside)
    except SetupFailed as error:
        why = str(error)
    except OSError as error:
        why = error.strerror or str(error)
    return TierReport(name=name, works=not why, why=why, network=True)


def _confinement(name: str, inside: Path, identity: Identity, *, network: bool = False) -> Confinement:
    return Confinement(
        tier=name,
        identity=identity,
        read=interpreter_paths(),
        write=[str(inside)],
        memory_bytes=256 * 1024**2,
        processes=32,
        file_size_bytes=1024**2,
        cpu_s=20,
        network=network,
    )


def _attempt(name: str, inside: Path, outside: Path, identity: Identity, port: int) -> Outcome:
    return run(
        ["/bin/sh", "-c", _ATTEMPT, "sh", str(inside), str(outside), str(port)],
        cwd=str(inside),
        env=base_environment(home=inside, scratch=inside),
        stdin=b"",
        confinement=_confinement(name, inside, identity),
        bounds=_BOUNDS,
        redactor=Unfiltered,
    )


@contextlib.contextmanager
def _places(folder: Path) -> Iterator[tuple[Path, Path, Identity]]:
    """Two folders of the sandbox's user side by side; one will be the workspace, the other is outside."""
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o711)
    root = Path(os.path.realpath(tempfile.mkdtemp(prefix=".probe-", dir=folder)))
    identity = identity_for(root.name)
    try:
        root.chmod(0o711)
        inside, outside = root / "inside", root / "outside"
        for made in (inside, outside):
            made.mkdir(mode=0o700)
        secret = outside / "secret"
        secret.write_text("a secret\n")
        if identity.dropped:
            for owned in (inside, outside, secret):
                os.chown(owned, identity.uid, identity.gid)
        yield inside, outside, identity
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _shortcomings(name: str, identity: Identity) -> str:
    if name != "ll":
        return ""
    missing = ["/proc and /tmp are closed to commands"]
    if not identity.dropped:
        missing.append("commands run as the server's own user and can change modes and times of its files outside")
    return f"Landlock ABI {landlock.abi()}; " + "; ".join(missing)
