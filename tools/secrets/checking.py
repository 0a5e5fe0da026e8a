"""Is what a handle names there, and closed to others?"""

import os
import stat
from pathlib import Path

from tools.errors import ToolRefused
from tools.secrets.models import SecretHandle
from tools.secrets.values import folder, path_of, read


def problems(handle: SecretHandle) -> list[str]:
    """What is wrong with it as this process sees it, in words; the value is read, and not told."""
    found = []
    try:
        read(handle)
    except ToolRefused as error:
        found.append(error.message.removeprefix(f"The secret {handle.name} cannot be used: ").rstrip("."))
    if handle.source == SecretHandle.Source.FILE and not found:
        path = path_of(handle)
        found += [f"{path} may be read by others (mode {mode:04o})" for mode in _loose(path)]
    return found


def folder_problem() -> str:
    """Why others may look into SECRETS_DIR; "" where they may not, or where there is no such folder."""
    path = folder()
    loose = _loose(path) if path.is_dir() else []
    return f"{path} may be looked into by others (mode {loose[0]:04o})" if loose else ""


def unnamed(handles: list[SecretHandle]) -> list[str]:
    """Files beneath SECRETS_DIR that no handle names, by their paths beneath it."""
    top = Path(os.path.realpath(folder()))
    named = {os.path.realpath(top / handle.place) for handle in handles if handle.source == SecretHandle.Source.FILE}
    files = (path for path in sorted(top.rglob("*")) if not path.is_symlink() and path.is_file())
    return [str(path.relative_to(top)) for path in files if str(path) not in named and ".." not in str(path)][:20]


def _loose(path: Path) -> list[int]:
    mode = stat.S_IMODE(path.stat().st_mode)
    return [mode] if mode & 0o077 else []
