"""A proof that one record stands in the log, for somebody who has neither the database nor this program.

The proof is a C2SP tlog-proof (c2sp.org/tlog-proof): index, audit path, signed checkpoint. Beside it goes the entry, whose
SHA-256 over 0x00 and its bytes is the leaf hash (see `audit.entries`).
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from audit import sequence
from audit.entries import entry
from audit.errors import CannotVerify, InvalidNote, InvalidProof, KeyUnsafe
from audit.merkle import check_inclusion, inclusion_proof, leaf_hash
from audit.models import Checkpoint, Delivery
from audit.notes import CheckpointText, NoteVerifier, decode_hash, open_checkpoint, text_of
from audit.proofs import inclusion
from audit.signing import load_verifier
from audit.tiles import folder_reader
from audit.witness.collect import QUORUM

HEADER = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Proof:
    """entry: the bytes of the log entry; text: the tlog-proof."""

    index: int
    entry: bytes
    text: str


def prove(record_id: UUID) -> Proof:
    """The proof against the latest checkpoint, with the cosignatures of witnesses where enough saw the record.

    Raises:
        CannotVerify: there is no such record, or it is not signed yet.
        InvalidProof: the log is not the one that was signed: run audit_verify.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.index, e.body, e.kid, e.signature, e.prev FROM audit_event e "
            "LEFT JOIN audit_leaf l ON l.event_id = e.id WHERE e.id = %s",
            (record_id,),
        )
        row = cursor.fetchone()
        if row is None:  # archived: its place stays
            cursor.execute("SELECT index, NULL, NULL, NULL, NULL FROM audit_leaf WHERE event_id = %s", (record_id,))
            row = cursor.fetchone()
        if row is None:
            raise CannotVerify(f"There is no record {record_id}.")
        index, body, kid, signature, prev = row
        note = None if index is None else latest_note(above=index)
        if note is None:
            raise CannotVerify(f"The record {record_id} is not signed yet: is audit_sequencer running?")
        checkpoint = CheckpointText.parse(text_of(note))
        data = _archived(index, checkpoint) if body is None else entry(body, kid, bytes(signature), prev)
        path = _path(leaf_hash(data), index, checkpoint)
    hashes = "".join(f"{base64.b64encode(value).decode()}\n" for value in path)
    return Proof(index, data, f"{HEADER}\nindex {index}\n{hashes}\n{note}")


def latest_note(above: int = -1) -> str | None:
    """The latest checkpoint; one that enough witnesses cosigned where it speaks for the record at index `above`."""
    cosigned = Delivery.objects.filter(pk=QUORUM, size__gt=above).first() if above >= 0 else None
    if cosigned is not None and _ours(cosigned.note):
        return cosigned.note
    with connection.cursor() as cursor:
        cursor.execute("SELECT size, note FROM audit_checkpoint ORDER BY size DESC, id DESC LIMIT 1")
        latest = cursor.fetchone()
    return str(latest[1]) if latest is not None and latest[0] > above else None


def _ours(note: str) -> bool:
    """Is this a checkpoint of the log that the database holds now, by the key in use? Not of one that was lost, and not by
    a key that was put away, which who checks may not have."""
    try:
        verifier = load_verifier(settings.AUDIT_PUBLISH_DIR)
        if verifier is None:
            return False
        checkpoint = open_checkpoint(note, [verifier])
    except (InvalidNote, KeyUnsafe):
        return False
    return Checkpoint.objects.filter(size=checkpoint.size, root=checkpoint.root).exists()


def _archived(index: int, checkpoint: CheckpointText) -> bytes:
    """An entry that only the published files hold."""
    try:
        return next(folder_reader(settings.AUDIT_PUBLISH_DIR, checkpoint.size).entries(index, index + 1))
    except (InvalidProof, OSError, StopIteration):
        raise CannotVerify(f"The record at {index} was archived, and the published files do not hold it.") from None


def _path(leaf: bytes, index: int, checkpoint: CheckpointText) -> list[bytes]:
    """From the log's files where they lead to the root, else from all leaves in the database."""
    files = folder_reader(settings.AUDIT_PUBLISH_DIR, checkpoint.size)
    try:
        path = inclusion(index, checkpoint.size, files.node)
        check_inclusion(leaf=leaf, index=index, size=checkpoint.size, proof=path, root=checkpoint.root)
        return path
    except (InvalidProof, OSError):
        leaves = list(sequence.stored_hashes(0, checkpoint.size))
        if len(leaves) != checkpoint.size:
            raise CannotVerify("The log has a gap: run audit_verify.") from None
        return inclusion_proof(leaves, index)


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
        path = [decode_hash(line, "A hash of the proof") for line in lines]
    except InvalidNote as error:
        raise InvalidProof(str(error)) from None
    trusted = list(verifiers)
    checkpoint = open_checkpoint(note, trusted)
    if checkpoint.origin not in {verifier.name for verifier in trusted}:
        raise InvalidNote(f"The checkpoint is of another log, {checkpoint.origin}.")
    index = int(match[1])
    check_inclusion(leaf=leaf_hash(entry), index=index, size=checkpoint.size, proof=path, root=checkpoint.root)
    return index, checkpoint
