"""Signed statements about the log: in the database, in the published files, in the signer's memory."""

import base64
from dataclasses import dataclass, field
from datetime import datetime

from django.db import connection

from audit import rotation
from audit.checking.findings import Report
from audit.checking.trust import Trust
from audit.errors import CannotVerify, InvalidNote
from audit.keyring import REVOKE, Judged, Ring
from audit.notes import NoteVerifier


@dataclass(slots=True)
class Claims:
    """Which root the log had at which size, and who says so.

    roots: size -> {root: where it was said}; good: the largest size that agreed with the log so far; ring: the keys that
    spoke for the log; opened_with: the key that it was opened with.
    """

    roots: dict[int, dict[bytes, str]] = field(default_factory=dict)
    good: int = 0
    largest: int = 0
    at: datetime | None = None
    ring: Ring = field(default_factory=Ring)
    opened_with: str | None = None

    def add(self, size: int, root: bytes, where: str) -> None:
        self.roots.setdefault(size, {}).setdefault(root, where)
        self.largest = max(self.largest, size)


def load_claims(report: Report, trust: Trust) -> Claims:
    """Every checkpoint whose signature holds; the others are reported.

    Raises:
        CannotVerify: there are checkpoints, and no key to check them with.
    """
    claims = Claims()
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, size, root, note, created_at FROM audit_checkpoint ORDER BY id")
        rows = cursor.fetchall()
    if trust.verifier is None:
        if rows or trust.published:
            raise CannotVerify("There are checkpoints but no public key to check them with: give it by --vkey.")
        return claims
    claims.ring = _ring(report, trust, trust.verifier)
    claims.opened_with = claims.ring.first_vkey
    opened: dict[str, Judged | None] = {}
    for identifier, size, root, note, created_at in rows:
        where = f"checkpoint {identifier} in the database"
        judged = _open(report, claims.ring, note, where, opened)
        if judged is None:
            continue
        checkpoint = judged.checkpoint
        if (checkpoint.size, checkpoint.root) != (size, bytes(root)):
            report.add("checkpoint_changed", f"The columns of {where} disagree with its signed note.")
        claims.add(checkpoint.size, checkpoint.root, where)
        report.checkpoints += 1
        if report.checkpoint_size is None or checkpoint.size >= report.checkpoint_size:
            report.checkpoint_size, report.checkpoint_at = checkpoint.size, created_at
            report.root = base64.b64encode(checkpoint.root).decode()
    for lines, file in ((trust.published, "published file"), (trust.cosigned, "file of cosigned checkpoints")):
        for line in lines:
            where = f"line {line.line} of the {file}"
            if line.note is None:
                report.add("published_invalid", f"{where.capitalize()} is malformed.")
                continue
            judged = _open(report, claims.ring, line.note, where, opened)
            if judged is not None:
                claims.add(judged.checkpoint.size, judged.checkpoint.root, where)
                report.published += lines is trust.published
    if trust.memory is not None:
        claims.add(trust.memory.size, trust.memory.edge.root(), "the signer's memory")
    return claims


def _ring(report: Report, trust: Trust, pinned: NoteVerifier) -> Ring:
    ring = Ring.build([pinned], rotation.statements())
    for index, why in ring.refused:
        report.add(
            "key_statement_invalid",
            f"A record says that another checkpoint key follows, but {why}.",
            index=_shown(index),
        )
    for ending in ring.restarts:
        statement = ending.statement
        lost = (
            f"The records from index {statement.from_size} to {(statement.lost_to or 0) - 1} were lost; that was declared at "
            f"index {ending.index if _shown(ending.index) is not None else 'pending'}. Nothing vouches for them any more."
        )
        if statement.from_size in trust.accepted_restarts:
            report.notes.append(lost)
        else:
            report.add(
                "records_lost",
                f"{lost} If you know why, --accept-restart {statement.from_size} takes it as known.",
                index=_shown(ending.index),
            )
    report.notes += [
        f"The checkpoint key {ending.statement.old.name}+{ending.statement.old.key_hash.hex()} is revoked from size "
        f"{ending.statement.from_size} on."
        for ending in ring.endings.values()
        if ending.statement.kind == REVOKE
    ]
    return ring


def _shown(index: int) -> int | None:
    return index if index < 2**62 else None


def _open(report: Report, ring: Ring, note: str, where: str, opened: dict[str, Judged | None]) -> Judged | None:
    """None where the checkpoint counts for nothing."""
    if note in opened:
        return opened[note]
    opened[note] = None
    there = f"{where[0].upper()}{where[1:]}"
    try:
        judged = ring.judge(note)
    except InvalidNote as error:
        report.add("checkpoint_invalid", f"{there} is not signed by this log's key: {error}")
        return None
    key = ring.keys[judged.vkey]
    if judged.checkpoint.origin != key.name:
        report.add("checkpoint_foreign", f"{there} is of another log, {judged.checkpoint.origin}.")
    elif judged.ended:
        ending = ring.endings[judged.vkey]
        report.add(
            "checkpoint_key_ended",
            f"{there} speaks for {judged.checkpoint.size} records with the key {key.name}+{key.key_hash.hex()}, which ended "
            f"at {ending.statement.from_size} by the record at index {ending.index}.",
        )
    elif not judged.void:
        opened[note] = judged
    return opened[note]
