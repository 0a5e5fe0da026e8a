"""What a project's own checks found: counts, and each finding with its file and line."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

FINDINGS_MAX = 200
_MESSAGE_MAX = 600
_NAME_MAX = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """file: as the program names it, "" where it names none; line, column: from 1, 0 where there is none; name: of the
    test, or the rule's code; severity: "failure" or "error" of a test, "error" or "warning" of a check."""

    file: str = ""
    line: int = 0
    column: int = 0
    name: str = ""
    message: str = ""
    severity: str = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """counted: what the counts are of could be told from the output; passed and so on: of tests; findings: in order."""

    counted: bool = False
    passed: int = 0
    failed: int = 0
    errors: int = 0
    skipped: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def total(self) -> int:
        return self.passed + self.failed + self.errors + self.skipped


def together(reports: Iterable[Report]) -> Report:
    """Of several runs the sum."""
    every = list(reports)
    return Report(
        counted=any(one.counted for one in every),
        passed=sum(one.passed for one in every),
        failed=sum(one.failed for one in every),
        errors=sum(one.errors for one in every),
        skipped=sum(one.skipped for one in every),
        findings=tuple(finding for one in every for finding in one.findings),
    )


def placed(report: Report, roots: Iterable[str], cwd: str) -> Report:
    """With files by their path from the work tree, where they lie in it; roots: how commands see the work tree."""
    tops = [root.rstrip("/") + "/" for root in roots]
    return replace(report, findings=tuple(_placed(one, tops, cwd) for one in report.findings))


def _placed(one: Finding, tops: list[str], cwd: str) -> Finding:
    file = one.file.removeprefix("file://").removeprefix("./")
    for top in tops:
        if file.startswith(top):
            return replace(one, file=file[len(top) :])
    if file and not file.startswith("/") and cwd not in ("", "."):
        return replace(one, file=str(PurePosixPath(cwd) / file))
    return replace(one, file=file)


def as_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """The first `FINDINGS_MAX`, bounded."""
    return [
        {
            "file": one.file[:1024],
            "line": one.line,
            "column": one.column,
            "name": one.name[:_NAME_MAX],
            "message": one.message.strip()[:_MESSAGE_MAX],
            "severity": one.severity,
        }
        for one in list(findings)[:FINDINGS_MAX]
    ]


def line_of(finding: dict[str, Any]) -> str:
    """`src/a.py:3:7: F401 'os' imported but unused`, the message's first line."""
    place = finding["file"] + (f":{finding['line']}" if finding["line"] else "")
    place += f":{finding['column']}" if finding["line"] and finding["column"] else ""
    message = next(iter(finding["message"].splitlines()), "")
    return ": ".join(part for part in (place, finding["name"], message) if part)


def number(text: str | None) -> int:
    """A count or line number; 0 of what is none."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,9}", text) else 0
