"""What is gathered of a command, and what it comes to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tools.spec import Risk

LEVELS = (Risk.LOW, Risk.MEDIUM, Risk.HIGH)
FOUND = "\0found"  # stands for what find finds while a command is read: no path is called so, and it is never told


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """programs: by name and path, None where they cannot be told; reads, writes: paths from the work tree, or as they
    stand where they lead out; hosts: as the words name them; scripts: files of the workspace that it may run; network: it
    speaks to other systems; deletes: it removes files; code: it runs code that no word shows; known: every word was
    understood; unlisted: a known program has a word that is not in its specification."""

    risk: Risk
    reasons: tuple[str, ...]
    programs: tuple[str, ...] | None
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    network: bool = False
    deletes: bool = False
    code: bool = False
    known: bool = True
    unlisted: bool = False


@dataclass(slots=True)
class Notes:
    """What is gathered on the way. places: the folders that it may work in, from the work tree."""

    places: tuple[str, ...] = (".",)
    depth: int = 0
    said: list[tuple[Risk, str]] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)
    opaque: bool = False
    reads: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    network: bool = False
    deletes: bool = False
    code: bool = False
    known: bool = True
    unlisted: bool = False

    def say(self, risk: Risk, why: str) -> None:
        self.said.append((risk, why))

    def told(self) -> Reading:
        level = max((risk for risk, _ in self.said), key=LEVELS.index, default=Risk.LOW)
        return Reading(
            risk=level,
            reasons=_told(why for risk, why in self.said if risk is level),
            programs=None if self.opaque else _told(self.programs),
            reads=_told(self.reads),
            writes=_told(self.writes),
            hosts=_told(self.hosts),
            scripts=_told(self.scripts),
            network=self.network,
            deletes=self.deletes,
            code=self.code,
            known=self.known,
            unlisted=self.unlisted,
        )


def _told(words: Iterable[str]) -> tuple[str, ...]:
    """Each once, and as people write it: NUL stands in no row."""
    return tuple(dict.fromkeys(word.replace(FOUND, "{}") for word in words))


def facts(told: Reading) -> Mapping[str, object]:
    """What policies see of it (`call.command`)."""
    return {
        "known": told.known,
        "unlisted": told.unlisted,
        "reads": list(told.reads),
        "writes": list(told.writes),
        "hosts": list(told.hosts),
        "network": told.network,
        "deletes": told.deletes,
        "code": told.code,
    }
