"""Checkpoints outside the database: a file that only grows, for copying to where nobody here can change it.

The folder holds `checkpoints.jsonl` (one line a checkpoint: when, size, note), `checkpoint` (the latest note, as tlog
clients read it), `checkpoint.vkey` (the public key that notes are checked with), `enrolment.keys` (the public keys,
one in hex a line, that may endorse the keys of writing processes) and `tile/` (the log itself, `audit.tiles`). Where
witnesses are asked, `checkpoint.cosigned` is the latest note that enough of them cosigned, and `cosigned.jsonl` has all.
"""

import json
import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from audit.errors import InvalidNote
from audit.notes import CheckpointText, text_of
from audit.signing import PUBLIC_FILE, write_durably

LOG_FILE, LATEST_FILE, ENROLMENT_FILE = "checkpoints.jsonl", "checkpoint", "enrolment.keys"
COSIGNED_LOG_FILE, COSIGNED_FILE = "cosigned.jsonl", "checkpoint.cosigned"


@dataclass(frozen=True, slots=True)
class Published:
    """One line of the file. line: counted from 1; note: None where the line is malformed."""

    line: int
    note: str | None


class Publisher:
    """Appends to the files of one folder."""

    def __init__(self, folder: Path, vkey: str, enrolment_key: bytes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.use(vkey)
        known = read_enrolment_keys(folder)
        if enrolment_key not in known:
            lines = [key.hex() for key in (*known, enrolment_key)]
            write_durably(folder / ENROLMENT_FILE, "\n".join(lines) + "\n")

    def use(self, vkey: str) -> None:
        """From now on notes are checked with this public key."""
        write_durably(self.folder / PUBLIC_FILE, vkey + "\n")

    def size(self) -> int:
        """How many records the latest note speaks for; 0 before the first."""
        try:
            text = text_of((self.folder / LATEST_FILE).read_text(encoding="utf-8"))
            return CheckpointText.parse(text).size
        except (OSError, UnicodeDecodeError, InvalidNote):
            return 0

    def publish(self, note: str, size: int, now: datetime) -> None:
        """Appends a checkpoint; it is on the disk when this returns. The same note again is not appended twice.

        One at a time: the signer's turn is held.
        """
        _append(self.folder / LOG_FILE, note, size, now)
        write_durably(self.folder / LATEST_FILE, note)

    def publish_cosigned(self, note: str, size: int, now: datetime) -> None:
        """The same for a note that enough witnesses cosigned."""
        _append(self.folder / COSIGNED_LOG_FILE, note, size, now)
        write_durably(self.folder / COSIGNED_FILE, note)


def _append(path: Path, note: str, size: int, now: datetime) -> None:
    _mend(path)
    if _last_line(path) == note:
        return
    line = json.dumps({"at": now.isoformat(), "size": size, "note": note}, ensure_ascii=False) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mend(path: Path) -> None:
    """Drops a half line that a crash left at the end: nobody was told of it."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = _last_line_end(file)
        if end is not None:
            file.truncate(end)


def _last_line_end(file: object) -> int | None:
    """Where the last whole line ends, or None where nothing follows it."""
    size = file.seek(0, os.SEEK_END)  # type: ignore[attr-defined]
    tail_start = max(0, size - 65_536)
    file.seek(tail_start)  # type: ignore[attr-defined]
    tail: bytes = file.read()  # type: ignore[attr-defined]
    if not tail or tail.endswith(b"\n"):
        return None
    return tail_start + tail.rfind(b"\n") + 1


def last_note(folder: Path) -> str | None:
    """The note of the last line."""
    return _last_line(folder / LOG_FILE)


def _last_line(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 65_536))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    return _note(lines[-1]) if lines else None


def read_published(folder: Path, name: str = LOG_FILE) -> list[Published]:
    """Every line of the file, oldest first; empty where there is none."""
    try:
        lines = (folder / name).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [Published(number, _note(line)) for number, line in enumerate(lines[:-1], start=1)]


def read_enrolment_keys(folder: Path) -> list[bytes]:
    """Raw public keys, oldest first; lines that are none are left out."""
    try:
        lines = (folder / ENROLMENT_FILE).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []
    return [bytes.fromhex(line) for line in lines if re.fullmatch(r"[0-9a-f]{64}", line)]


def _note(line: bytes) -> str | None:
    try:
        note = json.loads(line)["note"]
    except (ValueError, KeyError, TypeError):
        return None
    return note if isinstance(note, str) else None
