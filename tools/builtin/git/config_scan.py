"""A workspace's git configuration is held to an allow-list before every operation.

Filters, merge drivers, aliases, trailer commands, includes and conditional settings start programs and cannot all be
switched off from the command line. Nothing of ours writes them, so a repository that has one was tampered with.
"""

import os
import re
import stat
import subprocess
from pathlib import Path

from tools.builtin.git.hardening import environment
from tools.errors import ToolFailed, ToolRefused

MAX_BYTES = 64 * 1024

_ALLOWED = re.compile(
    r"""
      core\.(repositoryformatversion|filemode|bare|logallrefupdates|symlinks|ignorecase|precomposeunicode)
    | remote\.origin\.(url|fetch)
    | branch\..+\.(remote|merge)
    """,
    re.VERBOSE | re.DOTALL,
)
# Files that send git to another repository, or lay attributes over the tree where no review sees them.
_FORBIDDEN_FILES = ("commondir", "config.worktree", "info/attributes", "info/grafts", "objects/info/alternates")


def scan(git_dir: Path) -> None:
    """Checks the configuration of the repository at `git_dir`.

    Raises:
        ToolRefused: a setting or a file is there that no operation of ours makes; `details` names it.
        ToolFailed: git cannot read the configuration.
    """
    _real_folder(git_dir)
    for name in _FORBIDDEN_FILES:
        if os.path.lexists(git_dir / name):
            raise ToolRefused(f"The repository has a file that is not allowed: {name}.", file=name)
    for key in _keys(_read(git_dir / "config")):
        if not _ALLOWED.fullmatch(key):
            raise ToolRefused(f"The repository's git configuration has a setting that is not allowed: {key}.", key=key)


def prepared(git_dir: Path) -> bool:
    """Whether `git_dir` holds a repository at all."""
    return os.path.lexists(git_dir / "HEAD") and os.path.lexists(git_dir / "config")


def _real_folder(git_dir: Path) -> None:
    if not stat.S_ISDIR(os.lstat(git_dir).st_mode):
        raise ToolRefused("The workspace's git directory is not a folder.")
    for name in ("objects", "refs"):
        try:
            mode = os.lstat(git_dir / name).st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(mode):
            raise ToolRefused(f"The repository's {name} is not a folder.", file=name)


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ToolRefused(f"The repository's git configuration cannot be read: {error.strerror}.") from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ToolRefused("The repository's git configuration is not a regular file.")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ToolRefused("The repository's git configuration is too large.")
    return content


def _keys(content: bytes) -> list[str]:
    """The keys as git itself reads them: `section.subsection.name`, section and name in lower case."""
    listed = subprocess.run(
        ["git", "config", "--file", "-", "--no-includes", "--list", "--name-only", "-z"],
        input=content,
        capture_output=True,
        env={"PATH": os.environ.get("PATH", os.defpath), **environment()},
        cwd="/",
        timeout=20,
        check=False,
    )
    if listed.returncode != 0:
        raise ToolFailed(f"git cannot read the configuration: {listed.stderr.decode('utf-8', 'replace').strip()}")
    return [key for key in listed.stdout.decode("utf-8", "backslashreplace").split("\0") if key]
