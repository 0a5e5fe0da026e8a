"""Policies that come with the server, as YAML with expectations. They change nothing until somebody makes drafts of them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from approvals.errors import UnknownPolicy
from approvals.policy import yamlform

FOLDER = Path(__file__).resolve().parent.parent / "packs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """name: of its file; title: its first sentence; groups: whom its rules ask."""

    name: str
    title: str
    description: str
    source: str
    rules: int
    groups: tuple[str, ...]


@cache
def every() -> tuple[Pack, ...]:
    """All packs, by name."""
    return tuple(_read(path) for path in sorted(FOLDER.glob("*.yaml")))


def named(name: str) -> Pack:
    """Raises UnknownPolicy."""
    for pack in every():
        if pack.name == name:
            return pack
    raise UnknownPolicy(f"There is no pack {name[:80]!r}; there are {', '.join(pack.name for pack in every())}.")


def _read(path: Path) -> Pack:
    source = path.read_text()
    file = yamlform.load(source)
    description = " ".join((file.description or "").split())
    return Pack(
        name=path.stem,
        title=description.split(". ")[0].rstrip(".\n") + ".",
        description=description,
        source=source,
        rules=len(file.rules or ()),
        groups=tuple(sorted(file.groups())),
    )
