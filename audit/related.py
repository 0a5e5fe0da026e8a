"""What belongs to a job, in the words of the apps that know: this one knows records alone.

An app registers, for a kind of thing (`job`), a function from its id to the ids of what records about it may have as
their target.
"""

from collections.abc import Callable, Iterable

Source = Callable[[str], Iterable[object]]

_sources: dict[str, list[Source]] = {}


def register(kind: str, source: Source) -> None:
    """Registers `source(id)`. Registering the same one twice has no effect."""
    known = _sources.setdefault(kind, [])
    if source not in known:
        known.append(source)


def ids(kind: str, identifier: str) -> list[str]:
    """The id itself, and those of all that belongs to it, as text."""
    found = {identifier: None}
    for source in _sources.get(kind, ()):
        found.update(dict.fromkeys(str(one) for one in source(identifier)))
    return list(found)
