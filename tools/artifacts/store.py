"""Contents by their SHA-256: `<ARTIFACT_DIR>/ab/cdef…`, the server's own, and where nothing of a job can reach.

A content is put in place by a rename, so that it is there whole or not at all. Whoever adds or removes holds `lock`,
which goes by the database: workers and sweepers of several hosts then share one folder.
"""

import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.db import connection

_INCOMING = "incoming"
_NAME = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


class Missing(Exception):
    """The content is not there, or is not what it was; the message says which."""


def place(sha256: str) -> Path:
    """Where the content is, or would be.

    Raises:
        ValueError: this is no SHA-256 in lowercase hexadecimal.
    """
    if not _NAME.fullmatch(sha256):
        raise ValueError("not a SHA-256")
    return Path(settings.ARTIFACT_DIR) / sha256[:2] / sha256[2:]


@contextlib.contextmanager
def incoming() -> Iterator[Path]:
    """The name of a new file beside the contents; what is still there at the end of the block is removed."""
    folder = Path(settings.ARTIFACT_DIR) / _INCOMING
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / secrets.token_hex(16)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def put(path: Path, sha256: str) -> None:
    """Makes `path`, which holds it, the content of that name. In a transaction that holds `lock`."""
    target = place(sha256)
    if target.exists():
        return
    target.parent.mkdir(mode=0o700, exist_ok=True)
    os.rename(path, target)
    with _folder(target.parent) as folder:
        os.fsync(folder)


def lock(*, shared: bool) -> None:
    """Until the transaction's end: those who add keep those away who remove, and the other way about."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_xact_lock{'_shared' if shared else ''}(hashtext('tools.artifacts'))")


def read(sha256: str, size_bytes: int) -> Iterator[bytes]:
    """The content in parts, after all of it was compared with its name.

    Raises (when it is called, not when it is read):
        Missing
    """
    path = place(sha256)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Missing(f"It is not there: {error.strerror}.") from None
    try:
        if os.fstat(descriptor).st_size != size_bytes or _sum(descriptor) != sha256:
            raise Missing("It is not what was kept: its digest is another.")
    except BaseException:
        os.close(descriptor)
        raise
    return _parts(descriptor)


def _parts(descriptor: int) -> Iterator[bytes]:
    with open(descriptor, "rb", buffering=0) as file:
        while part := file.read(_CHUNK):
            yield part


def _sum(descriptor: int) -> str:
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
    return found


def contents() -> Iterator[tuple[str, int]]:
    """(SHA-256, size in bytes) of every content that is there."""
    folder = Path(settings.ARTIFACT_DIR)
    if not folder.is_dir():
        return
    for first in sorted(os.listdir(folder)):
        if len(first) != 2 or not (folder / first).is_dir():
            continue
        for entry in os.scandir(folder / first):
            if _NAME.fullmatch(first + entry.name):
                yield first + entry.name, entry.stat(follow_symlinks=False).st_size


def remove(sha256: str) -> bool:
    """Removes the content; False where there was none. In a transaction that holds `lock` alone."""
    try:
        place(sha256).unlink()
    except FileNotFoundError:
        return False
    return True


def remove_unfinished(*, older_than_s: float) -> int:
    """What workers left that were killed while they copied."""
    folder, removed = Path(settings.ARTIFACT_DIR) / _INCOMING, 0
    with contextlib.suppress(FileNotFoundError):
        for entry in list(os.scandir(folder)):
            if entry.stat(follow_symlinks=False).st_mtime < time.time() - older_than_s:
                os.unlink(entry.path)
                removed += 1
    return removed


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
