"""Where the servers' data may live, and as whom they run."""

import contextlib
import hashlib
import os
import pwd
import secrets
import socket
import stat
from pathlib import Path

from config.devstack.errors import StackError

REPOSITORY = Path(__file__).resolve().parent.parent.parent
_GIVEN: set[int] = set()  # by `free_port`, whose callers may not listen yet


def server_user() -> str | None:
    """The user that PostgreSQL runs as: None (ourselves), or `nobody` when we are root, which PostgreSQL refuses."""
    return "nobody" if os.geteuid() == 0 else None


def reachable_by_others(path: Path) -> bool:
    """May any user pass through every folder above `path` (which need not exist yet)?"""
    for folder in path.resolve().parents:
        if folder.is_dir() and not folder.stat().st_mode & stat.S_IXOTH:
            return False
    return True


def data_folder(given: str | None = None, *, repository: Path = REPOSITORY) -> tuple[Path, str]:
    """The folder of everything that the stack keeps, and one line that says why it is an unusual one, or "".

    `given` wins, then `<repository>/.data`. As root the servers and the sandbox run as other users, so where
    they could not reach that, it is a folder of this repository's own under /var/lib.
    """
    if given:
        return Path(given).expanduser().absolute(), ""
    usual = repository / ".data"
    if server_user() is None or reachable_by_others(usual):
        return usual, ""
    name = hashlib.sha256(str(repository.resolve()).encode()).hexdigest()[:12]
    instead = Path("/var/lib/countersign") / name
    return instead, f"Data is kept in {instead}, since other users than root cannot reach {repository}."


def make_data_folder(path: Path) -> None:
    """Creates it (0711: others may pass, not list) and checks that we can write there.

    Raises:
        StackError
    """
    if server_user() is not None and not reachable_by_others(path):
        raise StackError(
            f"--data-dir {path}: run by root, the servers work as other users, who cannot reach it; choose another."
        )
    try:
        new = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        if new or path.stat().st_uid == os.geteuid():
            path.chmod(0o711)
        probe = path / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StackError(
            f"The data folder {path} cannot be written: {error.strerror}; choose another --data-dir."
        ) from None


def give_to(path: Path, user: str | None) -> None:
    """Makes `path` (a folder) belong to `user`."""
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on just now, and that no outgoing connection is given meanwhile."""
    below = min(_first_of_connections(), 32768)
    for _ in range(200):
        port = 10240 + secrets.randbelow(below - 10240) if below > 12000 else 0
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found: int = probe.getsockname()[1]
            if found not in _GIVEN:
                _GIVEN.add(found)
                return found
    raise StackError("No TCP port of 127.0.0.1 is free.")


def _first_of_connections() -> int:
    """The lowest port that the system gives to outgoing connections."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 32768


def check_port_is_free(port: int) -> None:
    """Raises StackError."""
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            raise StackError(f"Port {port} needs root; choose another: bin/up --port 8000.") from None
        except OSError:
            raise StackError(f"Port {port} is in use; choose another: bin/up --port {free_port()}.") from None
