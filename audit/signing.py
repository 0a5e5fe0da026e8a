"""The checkpoint key (and a witness's), and the signer that remembers what it signed.

The signer is the log's first witness. It keeps a state file of its own, outside the database: the size and the right
edge of the tree that it last signed. It extends that tree by new leaves and nothing else, so it never signs a log that
was rolled back or forked; where the database disagrees with its memory it refuses.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from django.conf import settings

from audit.errors import InvalidNote, KeyMissing, KeyUnsafe, SignerRefused
from audit.merkle import Edge
from audit.notes import CheckpointText, CosignatureSigner, NoteSigner, NoteVerifier

KEY_FILE, PUBLIC_FILE, STATE_FILE, LOCK_FILE = "checkpoint.key", "checkpoint.vkey", "signer.json", "signer.lock"
NEXT_FILE = "checkpoint.key.next"  # made by a rotation, in use as soon as the log says so
WITNESS_FILE = "witness.key"

AnySigner = TypeVar("AnySigner", bound=NoteSigner)

Hashes = Callable[[int, int], Iterator[bytes]]
"""(start, stop) -> leaf hashes of that range."""


def load_key(folder: Path) -> NoteSigner:
    """The checkpoint key.

    Raises:
        KeyMissing
        KeyUnsafe: malformed, or other users may read it.
    """
    return read_key(folder / KEY_FILE, NoteSigner, "`manage.py audit_keygen` makes one for a new log.")


def load_witness_key(folder: Path) -> CosignatureSigner:
    """A witness's key; raises as `load_key`."""
    return read_key(folder / WITNESS_FILE, CosignatureSigner, "`manage.py audit_keygen --witness NAME` makes one.")


def read_key(path: Path, kind: type[AnySigner], advice: str) -> AnySigner:
    """The key in a file that only its owner may read; raises as `load_key`."""
    try:
        with path.open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            text = file.read().strip()
    except FileNotFoundError:
        what = "witness" if kind is CosignatureSigner else "checkpoint"
        raise KeyMissing(f"There is no {what} key in {path.parent}; {advice}") from None
    except OSError as error:
        raise KeyMissing(f"The key {path} cannot be read: {error.strerror}.") from None
    if status.st_mode & 0o077:
        raise KeyUnsafe(f"Other users may read {path}; set its mode to 0600.")
    if status.st_uid not in {os.geteuid(), 0}:
        raise KeyUnsafe(f"{path} belongs to another user; the process that signs must own it.")
    try:
        return kind.from_skey(text)
    except InvalidNote as error:
        raise KeyUnsafe(f"{path} holds no key for this: {error}") from None


def create_key(folder: Path, origin: str) -> NoteSigner:
    """Makes a checkpoint key named `origin` in a file of mode 0600, and its public half beside it.

    Raises:
        KeyUnsafe: there is a key already.
    """
    signer = make_key(folder / KEY_FILE, NoteSigner, origin)
    write_durably(folder / PUBLIC_FILE, signer.verifier.vkey + "\n")
    return signer


def make_key(path: Path, kind: type[AnySigner], name: str) -> AnySigner:
    """Makes a key in a new file of mode 0600.

    Raises:
        KeyUnsafe: there is a key already.
        InvalidNote: nothing can have this name.
    """
    signer = kind(name, secrets.token_bytes(32))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(signer.skey + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(partial, path)  # refuses to overwrite, and nobody sees half a key
    except FileExistsError:
        raise KeyUnsafe(f"There is a key in {path.parent} already; it is never overwritten.") from None
    finally:
        partial.unlink()
    return signer


def load_or_create_key(folder: Path, origin: str) -> NoteSigner:
    """In development a missing key is made; elsewhere that is an operator's deed (`audit_keygen`).

    Raises:
        KeyMissing
        KeyUnsafe
    """
    if not (folder / KEY_FILE).exists() and getattr(settings, "DEVELOPMENT", False):
        try:
            return create_key(folder, origin)
        except KeyUnsafe:
            pass  # another process made it at this moment
    signer = load_key(folder)
    if not (folder / PUBLIC_FILE).exists():
        write_durably(folder / PUBLIC_FILE, signer.verifier.vkey + "\n")
    return signer


def load_verifier(folder: Path) -> NoteVerifier | None:
    """The public half, or None where no key was made yet.

    Raises:
        KeyUnsafe: the file is malformed.
    """
    try:
        return NoteVerifier.from_vkey((folder / PUBLIC_FILE).read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        return None
    except (OSError, InvalidNote, UnicodeDecodeError) as error:
        raise KeyUnsafe(f"{folder / PUBLIC_FILE} holds no checkpoint key: {error}") from None


@dataclass(frozen=True, slots=True)
class Memory:
    """What the signer signed last. last_leaf: hash of the last leaf; note: the signed checkpoint."""

    edge: Edge
    last_leaf: bytes
    note: str

    @property
    def size(self) -> int:
        return self.edge.size


def read_memory(folder: Path) -> Memory | None:
    """None where nothing was signed yet.

    Raises:
        SignerRefused: the file is damaged or cannot be read.
    """
    path = folder / STATE_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        edge = Edge(int(data["size"]), [bytes.fromhex(value) for value in data["edge"]])
        return Memory(edge, bytes.fromhex(data["last_leaf"]), str(data["note"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SignerRefused(f"The signer's state {path} cannot be read: {error}.") from None


class Signer:
    """Signs checkpoints of one log. Two signers over one folder take turns by a file lock."""

    def __init__(self, key: NoteSigner, folder: Path) -> None:
        self.key = key
        self.folder = folder
        self._compared = False  # was the whole log compared with the memory since this process began?

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Holds the lock that serialises signing, publishing and changes of the key, and looks which key it is now.

        Raises:
            KeyMissing, KeyUnsafe
        """
        with (self.folder / LOCK_FILE).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            vkey = self.key.verifier.vkey
            self.key = load_key(self.folder)
            if self.key.verifier.vkey != vkey:
                self._compared = False
            yield

    def check(self, size: int, stored: Hashes) -> Memory | None:
        """Is the database's log of `size` records one that continues what was signed?

        The first check of a process compares every leaf, later ones the last.

        Raises:
            SignerRefused: it was rolled back, forked or rewritten.
        """
        memory = read_memory(self.folder)
        if memory is None or memory.size == 0:
            return None
        if size < memory.size:
            raise SignerRefused(
                f"The database holds {size} records but {memory.size} were signed: it was rolled back or cut."
            )
        if self._compared:
            if list(stored(memory.size - 1, memory.size)) != [memory.last_leaf]:
                raise SignerRefused(f"The record at {memory.size - 1} is not the one that was signed: the log forked.")
            return memory
        edge = Edge()
        for value in stored(0, memory.size):
            edge.append(value)
        if edge.size != memory.size or edge.root() != memory.edge.root():
            raise SignerRefused(f"The first {memory.size} records are not the ones that were signed: the log forked.")
        self._compared = True
        return memory

    def recall(self, checkpoint: CheckpointText, size: int, stored: Hashes) -> None:
        """Where the memory is lost, a checkpoint that was signed before stands in for it.

        Raises:
            SignerRefused: the database's log of `size` records does not continue it.
        """
        edge = Edge()
        if checkpoint.size <= size:
            for value in stored(0, checkpoint.size):
                edge.append(value)
        if edge.size != checkpoint.size or edge.root() != checkpoint.root:
            raise SignerRefused(f"The log does not continue its checkpoint at {checkpoint.size}: it was cut or forked.")

    def sign(self, size: int, *, stored: Hashes, checked: Hashes) -> str:
        """The signed checkpoint of the log at `size`, remembered before it is given back. Call within `turn()`.

        stored: leaf hashes as the database has them; checked: leaf hashes computed from the records.

        Raises:
            SignerRefused: the log does not continue what was signed.
        """
        memory = self.check(size, stored)
        if memory is not None and memory.size == size:
            return memory.note
        edge = Edge() if memory is None else memory.edge.copy()
        last = b""
        for last in checked(edge.size, size):
            edge.append(last)
        if edge.size != size:
            raise SignerRefused(f"The log says {size} records but holds {edge.size}.")
        note = self.key.sign(CheckpointText(self.key.name, size, edge.root()).text())
        state = {"size": size, "edge": [value.hex() for value in edge.hashes], "last_leaf": last.hex(), "note": note}
        write_durably(self.folder / STATE_FILE, json.dumps(state) + "\n")
        self._compared = True
        return note


def write_durably(path: Path, text: str) -> None:
    """Replaces a file at one stroke; it is on the disk when this returns."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
