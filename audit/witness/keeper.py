"""A witness: it remembers the last checkpoint of each log that it knows, and cosigns only what continues it.

The protocol is C2SP's tlog-witness. The state is a file a log, outside any database; it is on the disk before a
cosignature leaves.
"""

import base64
import fcntl
import hashlib
import json
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from audit.errors import InvalidNote, InvalidProof, SignerRefused
from audit.merkle import EMPTY_ROOT, check_consistency
from audit.notes import CheckpointText, CosignatureSigner, NoteVerifier, decode_hash, open_note, text_of
from audit.signing import write_durably

PROOF_MAX = 63
BODY_MAX_BYTES = 65_536
SIZE_TYPE = "text/x.tlog.size"
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Answer:
    """status: of HTTP."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Seen:
    """The last checkpoint of a log that was cosigned."""

    size: int = 0
    root: bytes = EMPTY_ROOT
    note: str = ""


class Keeper:
    """folder: holds the state. logs: the keys of the logs that are witnessed; several of one name follow each other."""

    def __init__(self, key: CosignatureSigner, folder: Path, logs: Iterable[NoteVerifier]) -> None:
        self.key = key
        self.folder = folder
        self.logs: dict[str, list[NoteVerifier]] = {}
        for verifier in logs:
            self.logs.setdefault(verifier.name, []).append(verifier)
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def add_checkpoint(self, body: bytes, now_s: int) -> Answer:
        """What `POST …/add-checkpoint` answers.

        Raises:
            SignerRefused: the state is damaged; nothing is cosigned.
        """
        try:
            old, proof, note = _parse(body)
            checkpoint = CheckpointText.parse(text_of(note))
        except InvalidNote as error:
            return Answer(400, f"{error}\n")
        verifiers = self.logs.get(checkpoint.origin)
        if verifiers is None:
            return Answer(404, "This log is not known here.\n")
        try:
            open_note(note, verifiers)
        except InvalidNote as error:
            return Answer(403, f"{error}\n")
        if old > checkpoint.size:
            return Answer(400, "The old size is larger than the checkpoint's.\n")
        with self._turn():
            return self._cosign(old, proof, note, checkpoint, now_s)

    def _cosign(self, old: int, proof: list[bytes], note: str, checkpoint: CheckpointText, now_s: int) -> Answer:
        seen = self.seen(checkpoint.origin)
        forked = old == checkpoint.size and seen.note != "" and checkpoint.root != seen.root
        if old != seen.size or forked:
            return Answer(409, f"{seen.size}\n", SIZE_TYPE)
        try:
            if old:
                check_consistency(
                    old_size=old, new_size=checkpoint.size, old_root=seen.root, new_root=checkpoint.root, proof=proof
                )
            elif proof or (checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT):
                raise InvalidProof("The proof is not empty.")
        except InvalidProof as error:
            return Answer(422, f"{error}\n")
        text = checkpoint.text()
        line = self.key.cosign(text, now_s)
        log_lines = note.removeprefix(f"{text}\n")
        state = {
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": checkpoint.root.hex(),
            "note": f"{text}\n{log_lines}{line}",
        }
        write_durably(self._path(checkpoint.origin), json.dumps(state) + "\n")
        return Answer(200, line)

    def seen(self, origin: str) -> Seen:
        """The last checkpoint of a log.

        Raises:
            SignerRefused: the state is damaged.
        """
        path = self._path(origin)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["origin"] != origin:
                raise ValueError("it is of another log")
            return Seen(int(data["size"]), bytes.fromhex(data["root"]), str(data["note"]))
        except FileNotFoundError:
            return Seen()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SignerRefused(f"The witness's state {path} cannot be read: {error}.") from None

    def _path(self, origin: str) -> Path:
        return self.folder / f"{hashlib.sha256(origin.encode()).hexdigest()}.json"

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One at a time, also where two processes share the folder."""
        with self._lock, (self.folder / "witness.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def request_body(old: int, proof: list[bytes], note: str) -> bytes:
    """What `add-checkpoint` is sent."""
    lines = "".join(f"{base64.b64encode(value).decode()}\n" for value in proof)
    return f"old {old}\n{lines}\n{note}".encode()


def _parse(body: bytes) -> tuple[int, list[bytes], str]:
    """(old size, consistency proof, checkpoint); raises InvalidNote."""
    try:
        head, blank, note = body.decode().partition("\n\n")
    except UnicodeDecodeError:
        raise InvalidNote("The request is not UTF-8.") from None
    first, *lines = head.split("\n")
    match = _OLD.fullmatch(first)
    if match is None or not blank or len(lines) > PROOF_MAX:
        raise InvalidNote("The request has an old size, at most 63 hashes, an empty line and a checkpoint.")
    return int(match[1]), [decode_hash(line, "A hash of the proof") for line in lines], note
