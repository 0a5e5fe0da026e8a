"""The `bwrap` tier: bubblewrap builds the namespaces and the view, our filter goes in by --seccomp. Stdlib only."""

from __future__ import annotations

import os

from tools.sandbox import confine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PLACES = ("/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap")
_PRIVATE_BYTES = str(64 << 20)
# exec by way of a shell gives 127 and 126 for what cannot be started, as the other tiers do.
_START = ["/bin/sh", "-c", 'exec "$@"', "sh"]


def program() -> str | None:
    """bwrap's path, from fixed places only."""
    return next((path for path in _PLACES if os.access(path, os.X_OK)), None)


def arguments(
    spec: dict[str, Any], *, bwrap: str, filter_fd: int, status_fd: int, wait_fds: tuple[int, int] | None = None
) -> list[str]:
    """bwrap's whole command line for this spec. It dies with its parent, always. The command's environment, which may
    hold secrets, is not on it: others could read it there.

    wait_fds: where it says which process its namespaces are of, and what it waits for before it starts the command.
    """
    made = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    made += ["--hostname", "sandbox", "--proc", "/proc", "--dev", "/dev"]
    made += ["--size", "4096", "--tmpfs", "/proc/1"]  # bwrap's own process, of the same user: not to be looked into
    made += ["--size", _PRIVATE_BYTES, "--tmpfs", "/dev/shm", "--size", _PRIVATE_BYTES, "--tmpfs", "/tmp"]
    for path in (*confine.SYSTEM_READ, "/sys/devices/system/cpu"):
        if os.path.islink(path):
            made += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            made += ["--ro-bind", path, path]
    writable = set(spec["write"])
    for path in sorted({*spec["read"], *writable}, key=len):
        made += ["--bind" if path in writable else "--ro-bind", path, path]
    made += ["--remount-ro", "/proc/1", "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", spec["cwd"]]
    made += ["--args", str(_environment(spec["env"]))]
    if wait_fds is not None:
        made += ["--info-fd", str(wait_fds[0]), "--block-fd", str(wait_fds[1])]
    made += ["--seccomp", str(filter_fd), "--json-status-fd", str(status_fd), "--"]
    return [*made, *_START, *spec["argv"]]


def _environment(env: dict[str, str]) -> int:
    """A descriptor to read the arguments from that set these variables."""
    words = [word for name, value in env.items() for word in ("--setenv", name, value)]
    descriptor = os.memfd_create("env", 0)
    os.write(descriptor, b"".join(os.fsencode(word) + b"\0" for word in words))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
