"""A proof that one record stands in the log, for somebody who has neither the database nor this program.

The proof is a C2SP tlog-proof (c2sp.org/tlog-proof): index, audit path, signed checkpoint. Beside it goes the entry, whose
SHA-256 over 0x00 and its bytes is the leaf hash (see `audit.entries`).
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db import connection, transaction

from audit import sequence
from audit.entries import entry
from audit.errors import CannotVerify, InvalidProof
from audit.merkle import check_inclusion, inclusion_proof, leaf_hash
from audit.notes import CheckpointText, NoteVerifier, open_checkpoint

HEADER = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Proof:
    """entry: the bytes of the log entry; text: the tlog-proof."""

    index: int
    entry: bytes
    text: str


def prove(record_id: UUID) -> Proof:
    """The proof against the latest checkpoint.

    Raises:
        CannotVerify: there is no such record, or it is not signed yet.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.index, e.body, e.kid, e.signature, e.prev FROM audit_event e "
            "LEFT JOIN audit_leaf l ON l.event_id = e.id WHERE e.id = %s",
            (record_id,),
        )
        row = cursor.fetchone()
        cursor.execute("SELECT size, note FROM audit_checkpoint ORDER BY size DESC, id DESC LIMIT 1")
        latest = cursor.fetchone()
        if row is None:
            raise CannotVerify(f"There is no record {record_id}.")
        index, body, kid, signature, prev = row
        if index is None or latest is None or index >= latest[0]:
            raise CannotVerify(f"The record {record_id} is not signed yet: is audit_sequencer running?")
        size, note = latest
        leaves = list(sequence.stored_hashes(0, size))
    if len(leaves) != size:
        raise CannotVerify("The log has a gap: run audit_verify.")
    path = inclusion_proof(leaves, index)
    hashes = "".join(f"{base64.b64encode(value).decode()}\n" for value in path)
    return Proof(index, entry(body, kid, bytes(signature), prev), f"{HEADER}\nindex {index}\n{hashes}\n{note}")


def check_proof(text: str, entry: bytes, verifiers: Iterable[NoteVerifier]) -> tuple[int, CheckpointText]:
    """The index of `entry` in the log, and the checkpoint that vouches for it.

    Raises:
        InvalidProof: malformed, or the entry is not the one that was logged.
        InvalidNote: no trusted key signed the checkpoint.
    """
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if lines.pop(0) != HEADER or not blank:
        raise InvalidProof("This is no tlog-proof.")
    if lines and lines[0].startswith("extra "):
        lines.pop(0)
    match = _INDEX.fullmatch(lines.pop(0)) if lines else None
    if match is None:
        raise InvalidProof("The proof names no index.")
    try:
        path = [base64.b64decode(line, validate=True) for line in lines]
    except binascii.Error:
        raise InvalidProof("A hash of the proof is not base64.") from None
    checkpoint = open_checkpoint(note, verifiers)
    index = int(match[1])
    check_inclusion(leaf=leaf_hash(entry), index=index, size=checkpoint.size, proof=path, root=checkpoint.root)
    return index, checkpoint
