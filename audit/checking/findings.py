"""What a check found, and what it means together."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID


class Verdict(StrEnum):
    """`exit_code` is what `audit_verify` ends with; 1 is kept for a check that could not run."""

    WHOLE = "whole"
    STALE = "stale"
    TAMPERED = "tampered"

    @property
    def exit_code(self) -> int:
        return {Verdict.WHOLE: 0, Verdict.TAMPERED: 2, Verdict.STALE: 3}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it must be.

    code: stable; level: TAMPERED or STALE; message: for people; index: place in the log, record: its id, event: its
    kind, where the finding is about one record.
    """

    code: str
    message: str
    level: Verdict = Verdict.TAMPERED
    index: int | None = None
    record: UUID | None = None
    event: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "record": self.record and str(self.record)}


@dataclass(slots=True)
class Report:
    """Findings (the first FINDINGS_MAX of `found`), and what was looked at.

    size: records in the log; checked: records read in full; archived: records that are in archives, of
    which the hash alone is here; pending: committed records that wait for their place;
    checkpoints, published: signed checkpoints compared, in the database and in the published file; checkpoint_size,
    checkpoint_at, root (base64): the latest valid one; notes: what a reader should know and is no finding.
    """

    findings: list[Finding] = field(default_factory=list)
    found: int = 0
    tampered: bool = False
    size: int = 0
    checked: int = 0
    archived: int = 0
    pending: int = 0
    checkpoints: int = 0
    published: int = 0
    checkpoint_size: int | None = None
    checkpoint_at: datetime | None = None
    root: str | None = None
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    FINDINGS_MAX: ClassVar[int] = 500

    def add(self, code: str, message: str, **details: Any) -> None:
        self.take(Finding(code=code, message=message, **details))

    def take(self, finding: Finding) -> None:
        self.found += 1
        self.tampered = self.tampered or finding.level == Verdict.TAMPERED
        if len(self.findings) < self.FINDINGS_MAX:
            self.findings.append(finding)

    @property
    def verdict(self) -> Verdict:
        if self.tampered:
            return Verdict.TAMPERED
        return Verdict.STALE if self.found else Verdict.WHOLE

    @property
    def exit_code(self) -> int:
        return self.verdict.exit_code

    def as_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "size": self.size,
            "checked": self.checked,
            "archived": self.archived,
            "pending": self.pending,
            "checkpoints": self.checkpoints,
            "published": self.published,
            "checkpoint_size": self.checkpoint_size,
            "checkpoint_at": self.checkpoint_at and self.checkpoint_at.isoformat(),
            "root": self.root,
            "found": self.found,
            "findings": [finding.as_json() for finding in self.findings],
            "seconds": round(self.seconds, 3),
            "notes": self.notes,
        }
