"""Where things stand in a source, and what is wrong there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line and a column, both from 1."""

    line: int
    column: int


START = Place(1, 1)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong, where: line and column from 1; `path` as people write it (`steps[2].arguments.argv`), or ""."""

    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f" {self.path}:" if self.path else ""
        return f"line {self.line}, column {self.column}:{where} {self.message}"

    def as_json(self) -> dict[str, str | int]:
        return {"line": self.line, "column": self.column, "path": self.path, "message": self.message}


class Places:
    """The places of a document's keys and values, by path."""

    def __init__(self, values: Mapping[Path, Place], keys: Mapping[Path, Place]) -> None:
        self._values, self._keys = values, keys

    def problem(self, path: Iterable[str | int], message: str, *, key: bool = False) -> Problem:
        """At the value of `path`, or at its key; where there is no such thing, at what would hold it."""
        full = tuple(path)
        for end in range(len(full), -1, -1):
            part = full[:end]
            place = (key and end == len(full) and self._keys.get(part)) or self._values.get(part)
            if place:
                return Problem(place.line, place.column, written(full), message)
        return Problem(START.line, START.column, written(full), message)


def written(path: Iterable[str | int]) -> str:
    """A path as people write it."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
