"""A workspace's files as a list and a heap: each content once, named by its SHA-256, and lists that name contents.

Everything is read and written as plain files, by descriptors that follow no link. No git runs on it: the repository's
folder is files like the others, so nothing in it (hooks, filters, attributes, configuration) can take effect.
"""

import hashlib
import json
import os
import stat
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tools.sandbox.identity import Identity
from tools.spec import Workspace

FILES_MAX = 200_000
PATH_MAX_BYTES = 3_000
DEPTH_MAX = 200
DISK_KEPT_FREE = 0.05  # of the disk: no snapshot takes the last of it
_UNSURE_NS = 50_000_000  # a file that changed this shortly before it was read is read again next time
_CHUNK = 1 << 20
_FOLDER, _FILE, _LINK = "d", "f", "l"


class NotKept(Exception):
    """The snapshot cannot be taken; the message says why, for people."""


class NoRoom(NotKept):
    """The snapshots before it leave no room for it."""


class Entry(NamedTuple):
    """path: from the workspace's root; content: a file's SHA-256, a link's target; ctime_ns: 0 where it is unsure."""

    kind: str
    path: str
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """listing: the list's own SHA-256; added_bytes: what the heap grew by."""

    listing: str
    files: int
    size_bytes: int
    added_bytes: int


@dataclass(slots=True)
class _Walk:
    heap: Path
    known: dict[str, Entry]
    began_ns: int
    size_max: int
    room: int
    entries: list[Entry]
    files: int = 0
    size: int = 0
    added: int = 0


def keep(workspace: Workspace, parts: Sequence[str], heap: Path, *, last: str, size_max: int, room: int) -> Kept:
    """Puts what the workspace's `parts` hold into the heap.

    last: the list before, "" for none: what has not changed since is not read; size_max: bytes that the files may have together; room: bytes that the heap may grow by.

    Raises:
        NotKept: there is too much of it, a file cannot be read, or the disk is nearly full.
        OSError
    """
    known = {entry.path: entry for entry in _listed(heap, last)} if last else {}
    free = os.statvfs(heap)
    spare = int(free.f_bavail * free.f_frsize - free.f_blocks * free.f_frsize * DISK_KEPT_FREE)
    if spare <= 0:
        raise NotKept("the disk is nearly full")
    walk = _Walk(heap, known, time.time_ns(), size_max, min(room, spare), [])
    for part in parts:
        try:
            descriptor = os.open(workspace.root / part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            walk.entries.append(_entry(_FOLDER, part, os.fstat(descriptor)))
            _folder(walk, descriptor, part, 1)
        finally:
            os.close(descriptor)
    listing = last if last and walk.entries == list(_listed(heap, last)) else _write_list(walk)
    return Kept(listing=listing, files=walk.files, size_bytes=walk.size, added_bytes=walk.added)


def put_back(heap: Path, listing: str, workspace: Workspace, identity: Identity) -> None:
    """Makes the listed files in a new workspace, which nothing works in yet, as `identity`'s.

    Raises:
        NotKept: a content is missing or damaged.
        OSError
    """
    root, folders = str(workspace.root), []
    for entry in _listed(heap, listing):
        place = f"{root}/{entry.path}"
        if entry.kind == _FOLDER:
            if not os.path.isdir(place):
                os.mkdir(place, 0o700)
            folders.append((place, entry))
        elif entry.kind == _LINK:
            os.symlink(entry.content, place)
        else:
            _copy(f"{heap}/{entry.content[:2]}/{entry.content[2:]}", place, entry)
        if identity.dropped:
            os.chown(place, identity.uid, identity.gid, follow_symlinks=False)
        if entry.kind != _FOLDER:
            os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
    for place, entry in reversed(folders):
        os.chmod(place, entry.mode)
        os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns))


def names(heap: Path, listing: str) -> set[str]:
    """What the heap holds for this list: the list itself and its contents."""
    return {listing} | {entry.content for entry in _listed(heap, listing) if entry.kind == _FILE}


def share(heap: Path, other: Path, listing: str) -> int:
    """Gives another heap all that a list needs, as links of the same files; how many bytes that is.

    Raises:
        NotKept: something is missing.
    """
    size, folders = 0, set()
    for name in names(heap, listing):
        source, target = f"{heap}/{name[:2]}/{name[2:]}", f"{other}/{name[:2]}/{name[2:]}"
        if name[:2] not in folders:
            folders.add(name[:2])
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        try:
            os.link(source, target)
            size += os.stat(target).st_size
        except FileExistsError:
            continue
        except FileNotFoundError:
            raise NotKept("a part of it is missing") from None
    return size


def clear(heap: Path, used: set[str]) -> int:
    """Removes what no list needs any more; what is left, in bytes."""
    size = 0
    for folder in os.scandir(heap):
        if not folder.is_dir(follow_symlinks=False):
            os.unlink(folder.path)  # what a killed process was about to add
            continue
        for file in os.scandir(folder.path):
            if folder.name + file.name in used:
                size += file.stat(follow_symlinks=False).st_size
            else:
                os.unlink(file.path)
    return size


def _folder(walk: _Walk, descriptor: int, path: str, depth: int) -> None:
    if depth > DEPTH_MAX or len(os.fsencode(path)) > PATH_MAX_BYTES:
        raise NotKept("its folders are nested too deeply")
    with os.scandir(descriptor) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for one in entries:
        below = f"{path}/{one.name}"
        try:
            status = os.stat(one.name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                walk.entries.append(_entry(_FOLDER, below, status))
                child = os.open(
                    one.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor
                )
                try:
                    _folder(walk, child, below, depth + 1)
                finally:
                    os.close(child)
            elif stat.S_ISREG(status.st_mode):
                walk.entries.append(_file(walk, descriptor, one.name, below, status))
            elif stat.S_ISLNK(status.st_mode):
                target = os.readlink(one.name, dir_fd=descriptor)
                walk.entries.append(_entry(_LINK, below, status, content=target))
        except FileNotFoundError:
            continue  # a step that runs beside took it away
        except PermissionError:
            raise NotKept(f"{below} cannot be read") from None
        walk.files += 1
        if walk.files > FILES_MAX:
            raise NotKept(f"it holds more than {FILES_MAX:,} files")


def _entry(kind: str, path: str, status: os.stat_result, content: str = "") -> Entry:
    folder = kind == _FOLDER  # a folder's own times change with what is in it, and are of no use to tell what has
    ctime_ns, inode = (0, 0) if folder else (status.st_ctime_ns, status.st_ino)
    return Entry(
        kind,
        path,
        status.st_mode & 0o777,
        0 if folder else status.st_size,
        status.st_mtime_ns,
        ctime_ns,
        inode,
        content,
    )


def _file(walk: _Walk, folder: int, name: str, path: str, status: os.stat_result) -> Entry:
    walk.size += status.st_size
    if walk.size > walk.size_max:
        raise NotKept(f"it holds more than {walk.size_max // 2**20:,} MiB")
    entry = _entry(_FILE, path, status)
    known = walk.known.get(path)
    if known is not None and known._replace(content="") == entry:
        return known
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(path)
        content, size = _add(walk, file.fileno())
    sure = status.st_ctime_ns < walk.began_ns - _UNSURE_NS
    return entry._replace(content=content, size=size, ctime_ns=entry.ctime_ns if sure else 0)


def _add(walk: _Walk, descriptor: int) -> tuple[str, int]:
    """Copies a file into the heap: its SHA-256 and size."""
    first = os.read(descriptor, _CHUNK)
    if len(first) < _CHUNK:
        return _put(walk, first), len(first)
    digest, size, temporary = hashlib.sha256(), 0, walk.heap / f"new-{os.getpid()}"
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb", buffering=0) as out:
            while first:
                digest.update(first)
                size += len(first)
                _take(walk, len(first))
                out.write(first)
                first = os.read(descriptor, _CHUNK)
        name = digest.hexdigest()
        place = _content(walk.heap, name)
        if place.exists() and place.stat().st_size == size:
            walk.added -= size
        else:
            place.parent.mkdir(mode=0o700, exist_ok=True)
            os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)
    return name, size


def _put(walk: _Walk, data: bytes) -> str:
    name = hashlib.sha256(data).hexdigest()
    place = _content(walk.heap, name)
    try:
        if place.stat().st_size == len(data):
            return name
    except FileNotFoundError:
        place.parent.mkdir(mode=0o700, exist_ok=True)
    _take(walk, len(data))
    temporary = walk.heap / f"new-{os.getpid()}"
    temporary.write_bytes(data)
    os.replace(temporary, place)
    return name


def _take(walk: _Walk, size: int) -> None:
    walk.added += size
    if walk.added > walk.room:
        raise NoRoom("there is no room left for it")


def _write_list(walk: _Walk) -> str:
    rows = "\n".join(json.dumps(entry) for entry in walk.entries)
    return _put(walk, zlib.compress(rows.encode(), 1))


def _content(heap: Path, name: str) -> Path:
    return heap / name[:2] / name[2:]


def _listed(heap: Path, listing: str) -> Sequence[Entry]:
    return _read_list(str(heap), listing)


@lru_cache(maxsize=4)
def _read_list(heap: str, listing: str) -> tuple[Entry, ...]:
    try:
        text = zlib.decompress(_content(Path(heap), listing).read_bytes()).decode()
    except (FileNotFoundError, zlib.error):
        raise NotKept("its list is missing or damaged") from None
    return tuple(_rows(text))


def _rows(text: str) -> Iterator[Entry]:
    for row in text.split("\n"):
        if row:
            yield Entry(*json.loads(row))


def _copy(source: str, target: str, entry: Entry) -> None:
    """Checks what it copies: a heap that a power cut tore must not pass for the file."""
    digest = hashlib.sha256()
    try:
        with open(source, "rb", buffering=0) as file, open(target, "xb", buffering=0) as out:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
            os.fchmod(out.fileno(), entry.mode)
    except FileNotFoundError:
        raise NotKept("a part of it is missing") from None
    if digest.hexdigest() != entry.content:
        raise NotKept("a part of it is damaged")
