"""One line of the self-test."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum

from config.doctor.finding import Finding, Level


class Result(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    NA = "n/a"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """name: what was looked at; says: what was seen; mend: what to do, "" where nothing failed."""

    name: str
    result: Result
    says: str
    mend: str = ""

    def as_json(self) -> dict[str, str]:
        return {key: str(value) for key, value in asdict(self).items()}


def passed(name: str, says: str) -> Line:
    return Line(name=name, result=Result.PASS, says=says)


def failed(name: str, says: str, mend: str) -> Line:
    return Line(name=name, result=Result.FAIL, says=says, mend=mend)


def not_here(name: str, says: str) -> Line:
    return Line(name=name, result=Result.NA, says=says)


def judged(findings: Iterable[Finding], *, warnings: Result = Result.FAIL) -> Iterator[Line]:
    """What doctor found, as lines. warnings: what its "to look at" is here. What is not configured does not apply."""
    for found in findings:
        if found.level is Level.OK:
            unset = found.says.startswith("not configured")
            yield Line(name=found.name, result=Result.NA if unset else Result.PASS, says=found.says)
        elif found.level is Level.FAIL or warnings is Result.FAIL:
            yield failed(found.name, found.says, found.todo)
        else:
            yield Line(name=found.name, result=warnings, says=found.says)
