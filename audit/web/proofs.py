"""A proof worked out step by step, so that a reader can follow it; and its parts, for the reader's own browser."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audit.errors import AuditError, InvalidNote, InvalidProof
from audit.merkle import leaf_hash, node_hash
from audit.notes import CheckpointText, NoteVerifier, open_checkpoint
from audit.prove import Proof, check_proof


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One step of the check. good: None where there is nothing to judge yet."""

    title: str
    value: str
    good: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    lines: list[Line]
    good: bool
    parts: dict[str, Any]


def shown(proof: Proof, verifiers: Sequence[NoteVerifier]) -> Shown:
    """Checks the proof as a stranger would: by the entry's bytes, the path and the signed checkpoint alone."""
    path = _path(proof.text)
    note = proof.text.partition("\n\n")[2]
    try:
        checkpoint = CheckpointText.parse(note.partition("\n\n")[0] + "\n")
    except AuditError as error:
        return Shown(lines=[Line(title="Checkpoint", value=str(error), good=False)], good=False, parts={})
    leaf = leaf_hash(proof.entry)
    lines = [
        Line(title="SHA-256 of 0x00 and the record's entry", value=_hex(leaf)),
        *_climb(leaf, proof.index, checkpoint.size, path),
    ]
    root = bytes.fromhex(lines[-1].value)
    lines.append(Line(title="Root in the checkpoint", value=_hex(checkpoint.root), good=root == checkpoint.root))
    lines.append(_signed(note, verifiers))
    try:
        check_proof(proof.text, proof.entry, verifiers)
        good = True
    except (InvalidProof, InvalidNote):
        good = False
    good = good and all(line.good is not False for line in lines)
    return Shown(lines=lines, good=good, parts=_parts(proof, path, checkpoint, note, verifiers))


def _climb(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> list[Line]:
    """The hash at each level, from the leaf to the root (RFC 9162, 2.1.3.2)."""
    lines: list[Line] = []
    place, last, result = index, size - 1, leaf
    for number, sibling in enumerate(path, start=1):
        if place & 1 or place == last:
            result, side = node_hash(sibling, result), "left"
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            result, side = node_hash(result, sibling), "right"
        place, last = place >> 1, last >> 1
        lines.append(Line(title=f"{number}. with its {side} neighbour {_hex(sibling)[:12]}…", value=_hex(result)))
    return lines or [Line(title="The only record: it is the root", value=_hex(result))]


def _signed(note: str, verifiers: Sequence[NoteVerifier]) -> Line:
    if not verifiers:
        return Line(title="Signature of the log", value="The server has no public key to check it with.", good=False)
    names = ", ".join(verifier.name for verifier in verifiers)
    try:
        open_checkpoint(note, verifiers)
    except InvalidNote as error:
        return Line(title="Signature of the log", value=str(error), good=False)
    return Line(title="Signature of the log", value=f"Ed25519 by {names}", good=True)


def _parts(
    proof: Proof, path: Sequence[bytes], checkpoint: CheckpointText, note: str, verifiers: Sequence[NoteVerifier]
) -> dict[str, Any]:
    text, _, signatures = note.partition("\n\n")
    return {
        "entry": base64.b64encode(proof.entry).decode(),
        "index": proof.index,
        "size": checkpoint.size,
        "path": [base64.b64encode(one).decode() for one in path],
        "root": base64.b64encode(checkpoint.root).decode(),
        "text": text + "\n",
        "signatures": [line.rpartition(" ")[2] for line in signatures.splitlines() if line],
        "keys": [base64.b64encode(verifier.public_key).decode() for verifier in verifiers],
    }


def _path(text: str) -> list[bytes]:
    head = text.partition("\n\n")[0].split("\n")
    lines = head[1:]
    if lines and lines[0].startswith("extra "):
        lines = lines[1:]
    return [base64.b64decode(line) for line in lines[1:]]


def _hex(value: bytes) -> str:
    return value.hex()
