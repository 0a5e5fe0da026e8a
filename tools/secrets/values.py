"""Where the values lie: files beneath SECRETS_DIR, and variables of this process that begin with AGENT_SECRET_."""

import math
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from tools import redact
from tools.errors import ToolRefused
from tools.secrets.models import ENV_PREFIX, SecretHandle

VALUE_MIN = 8  # what is shorter could not be told from innocent text
VALUE_MAX = 6144
LOOK_EVERY_S = 2.0

_looked_s = -math.inf
_seen: dict[Path, tuple[int, int, int]] = {}


def folder() -> Path:
    return Path(settings.SECRETS_DIR)


def read(handle: SecretHandle) -> str:
    """The value as it is now, unspeakable in this process from here on. A line end at the end of a file is no part of it.

    Raises:
        ToolRefused: it is not there, cannot be read, or is too short or too long.
    """
    value = _of_file(handle) if handle.source == SecretHandle.Source.FILE else _of_environment(handle)
    if len(value) < VALUE_MIN:
        raise _missing(handle, f"its value is shorter than {VALUE_MIN} characters")
    if "\0" in value:
        raise _missing(handle, "its value holds NUL")
    redact.register(value)
    return value


def keep_unspeakable() -> None:
    """Makes every value that lies here unspeakable in this process. Looks at the files every few seconds at most, and
    reads those that changed; a value that was replaced stays unspeakable until the process ends."""
    global _looked_s
    now_s = time.monotonic()
    if now_s - _looked_s < LOOK_EVERY_S:
        return
    _looked_s = now_s
    found = []
    for path in _files(folder()):
        try:
            facts = path.stat()
            seen = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
            if _seen.get(path) != seen:
                found.append(_text(path))
                _seen[path] = seen
        except (OSError, ValueError):
            continue
    found += [value for name, value in os.environ.items() if name.startswith(ENV_PREFIX)]
    redact.register(*found)


def path_of(handle: SecretHandle) -> Path:
    """The file, real and beneath SECRETS_DIR. Raises ToolRefused: it leads out of it."""
    top = Path(os.path.realpath(folder()))
    path = Path(os.path.realpath(top / handle.place))  # mounted secrets are links within their folder
    if top not in path.parents:
        raise _missing(handle, "its place leads out of SECRETS_DIR")
    return path


def _files(top: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(top, onerror=None):
        del folders[50:]
        for name in names[:500]:
            yield Path(place) / name


def _of_file(handle: SecretHandle) -> str:
    path = path_of(handle)
    try:
        return _text(path)
    except OSError as error:
        raise _missing(handle, f"its file cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _missing(handle, f"its file cannot be used: {error}") from None


def _text(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > VALUE_MAX:
            raise ValueError(f"it is no plain file of at most {VALUE_MAX} bytes")
        data = file.read(VALUE_MAX + 1)
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def _of_environment(handle: SecretHandle) -> str:
    if not handle.place.startswith(ENV_PREFIX):
        raise _missing(handle, f"its variable does not begin with {ENV_PREFIX}")
    value = os.environ.get(handle.place)
    if value is None:
        raise _missing(handle, "its variable is not set in this process")
    return value


def _missing(handle: SecretHandle, why: str) -> ToolRefused:
    return ToolRefused(f"The secret {handle.name} cannot be used: {why}.", secret=handle.name)
