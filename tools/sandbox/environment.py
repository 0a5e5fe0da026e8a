"""What a command finds around it: a fixed PATH, a short environment, and Python where the machine has none."""

import functools
import os
import shutil
import sys
from pathlib import Path

PATH = "/usr/local/bin:/usr/bin:/bin"
SYSTEM_FOLDERS = ("/usr/", "/bin/", "/lib/", "/nix/store/")

# Names that change which code a program runs or loads. A tool may not set them; GIT_* is for the git tools.
_FORBIDDEN_PREFIXES = ("LD_", "DYLD_", "PYTHON", "PERL5", "RUBY", "JAVA_TOOL", "_JAVA", "BASH_")
_FORBIDDEN = frozenset(
    {"PATH", "HOME", "TMPDIR", "ENV", "PS4", "IFS", "SHELLOPTS", "CDPATH", "GLOBIGNORE", "NODE_OPTIONS", "NODE_PATH"}
)


def base_environment(*, home: Path, scratch: Path) -> dict[str, str]:
    """The whole environment of a command that asks for nothing more."""
    return {
        "PATH": search_path(),
        "HOME": str(home),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "TZ": "UTC",
        "USER": "sandbox",
        "LOGNAME": "sandbox",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "GIT_CONFIG_NOSYSTEM": "1",  # where /etc/gitconfig is closed, and not just missing, git does not start
        "GIT_ATTR_NOSYSTEM": "1",
    }


def forbidden(name: str) -> bool:
    """Is this a variable that nobody may set for a command?"""
    return name in _FORBIDDEN or name.startswith(_FORBIDDEN_PREFIXES) or not name or "=" in name or "\0" in name


@functools.cache
def search_path() -> str:
    """PATH; where no python3 is on it, the running interpreter's folder is added if others can reach it."""
    interpreter = _own_interpreter()
    return f"{PATH}:{interpreter / 'bin'}" if interpreter else PATH


@functools.cache
def interpreter_paths() -> tuple[str, ...]:
    """The folders that the added interpreter needs, to be readable; empty where the system has its own."""
    interpreter = _own_interpreter()
    return (str(interpreter),) if interpreter else ()


@functools.cache
def _own_interpreter() -> Path | None:
    if shutil.which("python3", path=PATH):
        return None
    prefix = Path(os.path.realpath(sys.base_prefix))
    if str(prefix).startswith(SYSTEM_FOLDERS) or not (prefix / "bin" / "python3").exists():
        return None
    if os.geteuid() == 0 and any(not folder.stat().st_mode & 0o001 for folder in (prefix, *prefix.parents)):
        return None
    return prefix
