"""What a look found."""

from dataclasses import asdict, dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """`name`: what was looked at; `says`: what was seen; `todo`: what to do about it, "" where all is well."""

    name: str
    level: Level
    says: str
    todo: str = ""

    def as_json(self) -> dict[str, str]:
        return {key: str(value) for key, value in asdict(self).items()}


def ok(name: str, says: str) -> Finding:
    return Finding(name=name, level=Level.OK, says=says)


def warn(name: str, says: str, todo: str) -> Finding:
    return Finding(name=name, level=Level.WARN, says=says, todo=todo)


def fail(name: str, says: str, todo: str) -> Finding:
    return Finding(name=name, level=Level.FAIL, says=says, todo=todo)
