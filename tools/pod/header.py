"""What stands before a command's input: its environment, which must not stand in an argument, where any user of the
machine reads it, nor in a container's or pod's description, which its engine keeps. Stdlib only.

The container's first process is `sh -c START sh LENGTH argv…`: it reads exactly so many bytes of its input, which set the
environment and the limits, and becomes the command, whose input is the rest.
"""

import os
import re
import shlex
from collections.abc import Mapping

START = 'h=$(dd bs=1 count="$1" 2>/dev/null) || exit 125; shift; eval "$h"; exec "$@"'
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CHUNK = 1 << 20


def header(env: Mapping[str, str], limits: Mapping[str, int]) -> bytes:
    """The text that START evaluates: nothing of the image's environment is left, and the limits are set.

    Raises:
        ValueError: a shell has no variable of that name, or no such value.
    """
    lines = [r"unset h $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p') 2>/dev/null"]
    for name, value in env.items():
        if not _NAME.fullmatch(name) or "\0" in value:
            raise ValueError(f"the environment variable {name!r} cannot be set")
        lines.append(f"export {name}={shlex.quote(value)}")
    lines += [
        f"ulimit -t {limits['cpu_s']}",
        f"ulimit -f {max(1, limits['file_size_bytes'] // 512)}",
        f"ulimit -n {limits['open_files']}",
        "ulimit -c 0",
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def command(argv: list[str], head: bytes) -> list[str]:
    """The container's command line."""
    return ["/bin/sh", "-c", START, "sh", str(len(head)), *argv]


def with_input(head: bytes, stdin_fd: int) -> int:
    """A descriptor of memory that holds the header and then what `stdin_fd` holds, at its start."""
    made = os.memfd_create("input", os.MFD_CLOEXEC)
    os.write(made, head)
    while part := os.read(stdin_fd, _CHUNK):
        while part:
            part = part[os.write(made, part) :]
    os.lseek(made, 0, os.SEEK_SET)
    return made
