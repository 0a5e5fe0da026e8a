"""The steps' order: cycles, what comes before what, and layers for a picture."""

from collections.abc import Iterable, Mapping


def layers(needs: Mapping[str, Iterable[str]]) -> tuple[list[list[str]], list[str]]:
    """(keys by the length of the longest way to them, one cycle with its first key again at the end, or [])."""
    open_needs = {key: {one for one in wanted if one in needs} for key, wanted in needs.items()}
    after: dict[str, list[str]] = {key: [] for key in needs}
    for key, wanted in open_needs.items():
        for one in wanted:
            after[one].append(key)
    found: list[list[str]] = []
    ready = [key for key, wanted in open_needs.items() if not wanted]
    while ready:
        found.append(ready)
        coming = []
        for key in ready:
            for later in after[key]:
                open_needs[later].discard(key)
                if not open_needs[later]:
                    coming.append(later)
        ready = coming
    done = {key for layer in found for key in layer}
    return found, _cycle({key: open_needs[key] for key in needs if key not in done})


def ancestors(needs: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """For each key of an acyclic graph everything that comes before it."""
    before: dict[str, set[str]] = {}
    for layer in layers(needs)[0]:
        for key in layer:
            direct = {one for one in needs[key] if one in needs}
            before[key] = direct.union(*(before[one] for one in direct))
    return before


def _cycle(waiting: Mapping[str, set[str]]) -> list[str]:
    """Every key here waits for another of them, so walking back must come round."""
    if not waiting:
        return []
    path: list[str] = []
    seen: dict[str, int] = {}
    key = next(iter(waiting))
    while key not in seen:
        seen[key] = len(path)
        path.append(key)
        key = min(one for one in waiting[key] if one in waiting)
    return [*path[seen[key] :], key][::-1]
