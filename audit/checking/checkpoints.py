"""Signed statements about the log: in the database, in the published file, in the signer's memory."""

import base64
from dataclasses import dataclass, field
from datetime import datetime

from django.db import connection

from audit.checking.findings import Report
from audit.checking.trust import Trust
from audit.errors import CannotVerify, InvalidNote
from audit.notes import CheckpointText, open_checkpoint


@dataclass(slots=True)
class Claims:
    """Which root the log had at which size, and who says so.

    roots: size -> {root: where it was said}; good: the largest size that agreed with the log so far.
    """

    roots: dict[int, dict[bytes, str]] = field(default_factory=dict)
    good: int = 0
    largest: int = 0
    at: datetime | None = None

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
    opened: dict[str, CheckpointText] = {}
    for identifier, size, root, note, created_at in rows:
        where = f"checkpoint {identifier} in the database"
        checkpoint = _open(report, trust, note, where, opened)
        if checkpoint is None:
            continue
        if (checkpoint.size, checkpoint.root) != (size, bytes(root)):
            report.add("checkpoint_changed", f"The columns of {where} disagree with its signed note.")
        claims.add(checkpoint.size, checkpoint.root, where)
        report.checkpoints += 1
        if report.checkpoint_size is None or checkpoint.size >= report.checkpoint_size:
            report.checkpoint_size, report.checkpoint_at = checkpoint.size, created_at
            report.root = base64.b64encode(checkpoint.root).decode()
    for line in trust.published:
        where = f"line {line.line} of the published file"
        if line.note is None:
            report.add("published_invalid", f"{where.capitalize()} is malformed.")
            continue
        checkpoint = _open(report, trust, line.note, where, opened)
        if checkpoint is not None:
            claims.add(checkpoint.size, checkpoint.root, where)
            report.published += 1
    if trust.memory is not None:
        claims.add(trust.memory.size, trust.memory.edge.root(), "the signer's memory")
    return claims


def _open(
    report: Report, trust: Trust, note: str, where: str, opened: dict[str, CheckpointText]
) -> CheckpointText | None:
    if note in opened:
        return opened[note]
    assert trust.verifier is not None
    try:
        checkpoint = open_checkpoint(note, [trust.verifier])
    except InvalidNote as error:
        report.add("checkpoint_invalid", f"{where[0].upper()}{where[1:]} is not signed by this log's key: {error}")
        return None
    if checkpoint.origin != trust.verifier.name:
        report.add("checkpoint_foreign", f"{where[0].upper()}{where[1:]} is of another log, {checkpoint.origin}.")
        return None
    opened[note] = checkpoint
    return checkpoint
