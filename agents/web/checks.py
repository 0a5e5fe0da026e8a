"""What a step of the code tools found, as its page shows it: counts, and each finding with its place."""

from dataclasses import dataclass
from typing import Any

from agents.web.words import duration, readable

SHOWN_MAX = 50
_ORDER = ("passed", "failed", "errors", "warnings", "skipped", "changed")
_TONES = {"passed": "good", "failed": "bad", "errors": "bad", "warnings": "warn"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """place: `src/a.py:3:7`; severity: "failure", "error" or "warning". Texts are hostile; hidden characters are marks."""

    place: str
    name: str
    message: str
    severity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """counts: (number, word, tone); runs: (command, how it ended, which file said so); files: that a formatter changed;
    more: findings that are not shown."""

    title: str
    counts: list[tuple[int, str, str]]
    lines: list[Line]
    more: int
    runs: list[tuple[str, str, str]]
    files: list[str]
    more_files: int


def checks_of(tool: str, data: dict[str, Any]) -> Checks | None:
    """Of a result's data; None where the step ran no checks."""
    found = data.get("checks")
    if not tool.startswith("code.") or not isinstance(found, dict):
        return None
    findings = [one for one in _list(found.get("findings")) if isinstance(one, dict)]
    files = [readable(str(name)) for name in _list(data.get("files"))]
    return Checks(
        title={"test": "Tests", "lint": "Findings", "format": "Format"}.get(str(found.get("kind")), "Checks"),
        counts=[
            (number, name, _TONES.get(name, "") if number else "")
            for name, number in sorted(_counts(found.get("counts")), key=lambda one: _ORDER.index(one[0]))
        ],
        lines=[_line(one) for one in findings[:SHOWN_MAX]],
        more=max(0, len(findings) - SHOWN_MAX) + _int(found.get("more")),
        runs=[_run(one) for one in _list(found.get("runs")) if isinstance(one, dict)],
        files=files[:SHOWN_MAX],
        more_files=max(0, len(files) - SHOWN_MAX),
    )


def _counts(given: Any) -> list[tuple[str, int]]:
    return (
        [(name, number) for name, number in given.items() if name in _ORDER and isinstance(number, int)]
        if isinstance(given, dict)
        else []
    )


def _line(one: dict[str, Any]) -> Line:
    line, column = _int(one.get("line")), _int(one.get("column"))
    place = (
        readable(str(one.get("file", ""))) + (f":{line}" if line else "") + (f":{column}" if line and column else "")
    )
    severity = str(one.get("severity"))
    return Line(
        place=place,
        name=readable(str(one.get("name", ""))),
        message=readable(str(one.get("message", ""))),
        severity=severity if severity in ("failure", "error", "warning") else "error",
    )


def _run(one: dict[str, Any]) -> tuple[str, str, str]:
    seconds = one.get("duration_s")
    took = f" after {duration(seconds)}" if isinstance(seconds, int | float) else ""
    ended = str(one.get("ended_by") or f"exit code {one.get('exit_code')}")
    command = " ".join(str(word) for word in _list(one.get("argv")))
    return readable(command), readable(ended + took), readable(str(one.get("because", "")))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _int(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
