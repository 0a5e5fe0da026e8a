"""That a later checkpoint continues an earlier one, for somebody who has neither the log nor this program."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from audit import proofs, rotation, sequence
from audit.errors import CannotVerify, InvalidNote, InvalidProof
from audit.keyring import Ring
from audit.merkle import check_consistency, consistency_proof
from audit.notes import CheckpointText, NoteVerifier, decode_hash, text_of
from audit.publish import read_published
from audit.tiles import folder_reader


@dataclass(frozen=True, slots=True)
class Consistency:
    """old, new: checkpoints as signed notes; proof: RFC 6962, 2.1.2; statements: (index, note) about checkpoint keys."""

    old: str
    new: str
    proof: tuple[bytes, ...]
    statements: tuple[tuple[int, str], ...] = ()

    def as_json(self) -> str:
        """The file that the offline verifier reads."""
        return json.dumps(
            {
                "old": self.old,
                "new": self.new,
                "proof": [base64.b64encode(value).decode() for value in self.proof],
                "statements": self.statements,
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Consistency":
        """Raises InvalidNote."""
        try:
            proof = tuple(decode_hash(line, "A hash of the proof") for line in data["proof"])
            statements = tuple((int(index), str(note)) for index, note in data["statements"])
            return cls(str(data["old"]), str(data["new"]), proof, statements)
        except (KeyError, TypeError, ValueError):
            raise InvalidNote("This is no proof of consistency.") from None


def find_note(which: str) -> str:
    """The checkpoint at a size, or in a file.

    Raises:
        CannotVerify: there is none.
    """
    if not which.isdecimal():
        try:
            return Path(which).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CannotVerify(f"{which} cannot be read: {error}") from None
    with connection.cursor() as cursor:
        cursor.execute("SELECT note FROM audit_checkpoint WHERE size = %s ORDER BY id DESC LIMIT 1", (int(which[:18]),))
        row = cursor.fetchone()
    if row is not None:
        return str(row[0])
    for line in read_published(settings.AUDIT_PUBLISH_DIR):
        if line.note is not None and CheckpointText.parse(text_of(line.note)).size == int(which):
            return line.note
    raise CannotVerify(f"There is no checkpoint at {which}; `checkpoints.jsonl` lists those that there are.")


def prove_consistency(old: str, new: str, verifier: NoteVerifier) -> Consistency:
    """The proof that the log of the checkpoint `new` continues the one of `old`, both notes.

    Raises:
        InvalidNote: a checkpoint is not signed by this log's keys.
        InvalidProof: it does not: the log forked, or was cut.
        CannotVerify: they stand the wrong way round, or this log is shorter than `new`.
    """
    with transaction.atomic():
        statements = tuple(rotation.statements())
        ring = Ring.build([verifier], statements)
        first, second = (ring.judge(note).checkpoint for note in (old, new))
        held = sequence.state()[0]
        if first.size > max(held, second.size):
            raise InvalidProof(f"The log was cut: {first.size} records were signed, and it holds {held}.")
        if not 0 < first.size <= second.size:
            raise CannotVerify("Give the smaller checkpoint first, and none that is empty.")
        if second.size > held:
            raise CannotVerify(f"This log holds fewer than {second.size} records: run audit_verify.")
        proof = _hashes(first, second)
    found = Consistency(old, new, tuple(proof), statements)
    check(found, verifier)
    return found


def _hashes(old: CheckpointText, new: CheckpointText) -> list[bytes]:
    """From the log's files where they hold what is needed, else from the database."""
    files = folder_reader(settings.AUDIT_PUBLISH_DIR, new.size)
    try:
        proof = proofs.consistency(old.size, new.size, files.node)
        check_consistency(old_size=old.size, new_size=new.size, old_root=old.root, new_root=new.root, proof=proof)
        return proof
    except (InvalidProof, OSError):
        leaves = list(sequence.stored_hashes(0, new.size))
        if len(leaves) != new.size:
            raise CannotVerify("The log has a gap: run audit_verify.") from None
        return consistency_proof(leaves, old.size)


def check(found: Consistency, verifier: NoteVerifier) -> tuple[CheckpointText, CheckpointText]:
    """The two checkpoints, of which the second continues the first.

    Raises:
        InvalidNote, InvalidProof
    """
    ring = Ring.build([verifier], found.statements)
    judged = [ring.judge(note) for note in (found.old, found.new)]
    for one in judged:
        if one.void or one.ended:
            raise InvalidProof(f"The checkpoint at {one.checkpoint.size} counts for nothing: its key ended before.")
    old, new = (one.checkpoint for one in judged)
    check_consistency(
        old_size=old.size, new_size=new.size, old_root=old.root, new_root=new.root, proof=list(found.proof)
    )
    return old, new
