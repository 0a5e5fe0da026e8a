"""Files below one folder, opened so that no link, race or `..` leads out of it.

Every open is one openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS from a descriptor of the
folder; what was opened is then judged by its descriptor. Nothing is ever decided about a path and then done to it.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tools.errors import SandboxUnavailable, ToolRefused
from tools.sandbox.kernel import SYS_OPENAT2, check, libc, syscall

_RESOLVE = 0x02 | 0x04 | 0x08  # NO_MAGICLINKS, NO_SYMLINKS, BENEATH
_NOREPLACE = 1
_TRIES = 16  # openat2 answers EAGAIN when a rename elsewhere races with `..`
NEW_FILE_MODE = 0o644
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """path: relative to the folder; kind: "file", "folder", "link" or "other"; size_bytes: of a file."""

    path: str
    kind: str
    size_bytes: int


class NotThere(Exception):
    """There is no such file, or it is not what was asked for; the message says which."""


class Beneath:
    """A folder and what lies below it. New files belong to the folder's owner. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._root = os.open(folder, _FOLDER | os.O_NOFOLLOW)
        owner = os.fstat(self._root)
        self._owner = (owner.st_uid, owner.st_gid)

    def __enter__(self) -> "Beneath":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def read(self, path: str, limit_bytes: int) -> bytes:
        """The whole file.

        Raises:
            NotThere: no such regular file, or more than `limit_bytes`.
            ToolRefused: the way there leads over a symbolic link or out.
        """
        return self.read_with_mode(path, limit_bytes)[0]

    def opened(self, path: str) -> contextlib.AbstractContextManager[int]:
        """A descriptor of a regular file, for reading in parts.

        Raises:
            NotThere: no such regular file.
            ToolRefused: the way there leads over a symbolic link or out.
        """
        return self._file(path)

    def read_with_mode(self, path: str, limit_bytes: int) -> tuple[bytes, int]:
        """As `read`, and the permissions of what was read."""
        with self._file(path) as descriptor:
            facts = os.fstat(descriptor)
            if facts.st_size > limit_bytes:
                raise NotThere(f"{path} has {facts.st_size} bytes; the limit is {limit_bytes}.")
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(limit_bytes + 1)
            if len(content) > limit_bytes:
                raise NotThere(f"{path} has more than {limit_bytes} bytes.")
            return content, facts.st_mode & 0o777

    def write(self, path: str, content: bytes, *, new_mode: int = NEW_FILE_MODE) -> bool:
        """Puts `content` at `path` in one step (a new file, renamed into place); folders on the way are made, the
        permissions of a file that was there are kept; `new_mode` are those of one that was not. True if the file is new.

        Raises:
            NotThere: the path is a folder, or cannot be written.
            ToolRefused: the way there leads over a symbolic link or out.
        """
        try:
            return self._write(path, content, new_mode)
        except OSError as error:
            raise _explained(path, error) from None

    def facts(self, path: str) -> os.stat_result:
        """Of what stands at `path`: of a symbolic link its own.

        Raises:
            NotThere: nothing does.
            ToolRefused: the way there leads over a symbolic link or out.
        """
        with self._holder(path) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def make_folder(self, path: str) -> bool:
        """Makes the folder and those above it that are missing. False if it was there.

        Raises:
            NotThere: something else stands there, or it cannot be made.
            ToolRefused: the way there leads over a symbolic link or out.
        """
        try:
            was = self.kind(path) == "folder"
        except NotThere:
            was = False
        try:
            with self._made_folders(PurePosixPath(path).parts):
                return not was
        except OSError as error:
            raise _explained(path, error) from None

    def move(self, source: str, target: str) -> None:
        """Renames, in one step; what stands at `target` is never replaced, folders on the way there are made.

        Raises:
            NotThere: there is no `source`, or something stands at `target`, or one cannot be used.
            ToolRefused: a way leads over a symbolic link or out.
        """
        with self._holder(source) as (here, name):
            os.stat(name, dir_fd=here, follow_symlinks=False)
            parts = _named(target)
            try:
                with self._made_folders(parts[:-1]) as there:
                    _rename(here, name, there, parts[-1])
            except OSError as error:
                if error.errno == errno.EEXIST:
                    raise NotThere(f"{target} is there already.") from None
                raise _explained(target, error) from None

    def remove_file(self, path: str) -> None:
        """Removes a file, or of a symbolic link the link.

        Raises:
            NotThere: nothing stands there, or a folder does.
            ToolRefused: the way there leads over a symbolic link or out.
        """
        with self._holder(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def take_out(self, path: str, folder: Path, name: str) -> None:
        """Renames what stands at `path` to `name` in `folder`, outside, in one step.

        Raises:
            NotThere: nothing stands there, or it cannot be used.
            ToolRefused: the way there leads over a symbolic link or out.
        """
        there = os.open(folder, _FOLDER | os.O_NOFOLLOW)
        try:
            with self._holder(path) as (here, own):
                _rename(here, own, there, name)
        finally:
            os.close(there)

    @contextlib.contextmanager
    def _holder(self, path: str) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder that holds `path`, and the last part's name; OSError is explained."""
        parts = _named(path)
        folder = self._open("/".join(parts[:-1]) or ".", _FOLDER)
        try:
            yield folder, parts[-1]
        except OSError as error:
            raise _explained(path, error) from None
        finally:
            os.close(folder)

    def _write(self, path: str, content: bytes, new_mode: int) -> bool:
        parts = _named(path)
        with self._made_folders(parts[:-1]) as folder:
            name = parts[-1]
            mode = new_mode
            is_new = True
            with contextlib.suppress(FileNotFoundError):
                facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISDIR(facts.st_mode):
                    raise NotThere(f"{path} is a folder.")
                if not stat.S_ISREG(facts.st_mode):
                    raise ToolRefused(f"{path} is not a regular file.", path=path)
                mode, is_new = facts.st_mode & 0o777, False
            _remove_leftovers(folder, name)
            temporary = f".{name[:100]}.{secrets.token_hex(8)}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
            try:
                with open(descriptor, "wb") as file:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                    file.write(content)
                    self._give(file.fileno())
                    os.fchmod(file.fileno(), mode)
                    file.flush()
                    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            return is_new

    def entries(self, path: str, *, depth: int, limit: int, leave_out: frozenset[str] = frozenset()) -> list[Entry]:
        """What lies in the folder `path` ("" or ".": the top), down to `depth` levels, sorted; at most `limit`.

        Raises:
            NotThere: no such folder.
            ToolRefused: the way there leads over a symbolic link or out.
        """
        found: list[Entry] = []
        queue = [(path.strip("/") if path not in ("", ".") else "", 1)]
        first = True
        while queue and len(found) < limit:
            here, level = queue.pop(0)
            try:
                folder = self._open(here or ".", _FOLDER)
            except (NotThere, ToolRefused):
                if first:
                    raise
                continue  # it was moved or replaced meanwhile
            first = False
            try:
                below = self._scan(folder, here, leave_out)
            finally:
                os.close(folder)
            found += below[: limit - len(found)]
            if level < depth:
                queue += [(entry.path, level + 1) for entry in below if entry.kind == "folder"]
        return sorted(found, key=lambda entry: entry.path.split("/"))

    def kind(self, path: str) -> str:
        """ "file" or "folder".

        Raises:
            NotThere, ToolRefused
        """
        descriptor = self._open(path or ".", os.O_PATH | os.O_CLOEXEC)
        try:
            return _kind(os.fstat(descriptor).st_mode)
        finally:
            os.close(descriptor)

    def _scan(self, folder: int, here: str, leave_out: frozenset[str]) -> list[Entry]:
        below = []
        with os.scandir(folder) as items:
            for item in items:
                if item.name in leave_out:
                    continue
                try:
                    facts = item.stat(follow_symlinks=False)
                except OSError:
                    continue
                path = f"{here}/{item.name}" if here else item.name
                kind = _kind(facts.st_mode)
                below.append(Entry(path, kind, facts.st_size if kind == "file" else 0))
        return sorted(below, key=lambda entry: entry.path)

    @contextlib.contextmanager
    def _file(self, path: str) -> Iterator[int]:
        descriptor = self._open(path, _FILE)
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise NotThere(f"{path} is a folder.")
            if not stat.S_ISREG(mode):
                raise ToolRefused(f"{path} is not a regular file.", path=path)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _made_folders(self, parts: tuple[str, ...]) -> Iterator[int]:
        """A descriptor of the folder named by `parts`; what is missing is made."""
        here = ""
        folder = self._open(".", _FOLDER)
        try:
            for part in parts:
                here = f"{here}/{part}" if here else part
                is_new = True
                try:
                    os.mkdir(part, 0o755, dir_fd=folder)
                except FileExistsError:
                    is_new = False
                below = self._open(here, _FOLDER)
                os.close(folder)
                folder = below
                if is_new:
                    self._give(folder)
            yield folder
        finally:
            os.close(folder)

    def _give(self, descriptor: int) -> None:
        if self._owner[0] != os.geteuid():
            os.fchown(descriptor, *self._owner)

    def _open(self, path: str, flags: int) -> int:
        how = ctypes.create_string_buffer(struct.pack("QQQ", flags, 0, _RESOLVE), 24)
        for _ in range(_TRIES):
            try:
                return syscall(
                    f"open {path}",
                    SYS_OPENAT2,
                    ctypes.c_int(self._root),
                    os.fsencode(path),
                    how,
                    ctypes.c_size_t(24),
                )
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise _explained(path, error) from None
        raise NotThere(f"{path} is being moved about.")


def _named(path: str) -> tuple[str, ...]:
    """The parts of a path that names something within its folder. Raises ToolRefused."""
    parts = PurePosixPath(path).parts
    if not parts:
        raise ToolRefused("This is the top of the work tree.", path=path)
    if parts[-1] == "..":
        raise ToolRefused("A path ends with a name.", path=path)
    return parts


def _rename(here: int, name: str, there: int, new: str) -> None:
    """renameat2(2) that replaces nothing. Raises OSError."""
    result = libc.renameat2(
        ctypes.c_int(here),
        ctypes.c_char_p(os.fsencode(name)),
        ctypes.c_int(there),
        ctypes.c_char_p(os.fsencode(new)),
        ctypes.c_uint(_NOREPLACE),
    )
    check(result, f"rename {name}")


def _remove_leftovers(folder: int, name: str) -> None:
    """Removes what writers of `name` left that were killed; one that lives holds a lock on its file."""
    pattern = re.compile(rf"\.{re.escape(name[:100])}\.[0-9a-f]{{16}}")
    with os.scandir(folder) as items:
        found = [item.name for item in items if pattern.fullmatch(item.name)]
    for left in found:
        with contextlib.suppress(OSError):
            descriptor = os.open(left, _FILE | os.O_NOFOLLOW, dir_fd=folder)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    os.unlink(left, dir_fd=folder)
            finally:
                os.close(descriptor)


def _explained(path: str, error: OSError) -> Exception:
    if error.errno == errno.ENOENT:
        return NotThere(f"There is no {path}.")
    if error.errno == errno.ENOTDIR:
        return NotThere(f"{path} is not a folder, or leads through a file.")
    if error.errno in (errno.ELOOP, errno.EXDEV):
        return ToolRefused(f"{path} leads over a symbolic link or out of the workspace.", path=path)
    if error.errno == errno.ENOSYS:
        return SandboxUnavailable("This kernel has no openat2 (Linux 5.6): files cannot be opened safely.")
    return NotThere(f"{path} cannot be used: {os.strerror(error.errno or 0)}.")


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"
