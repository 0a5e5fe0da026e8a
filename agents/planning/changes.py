"""How two versions of a plan differ, step by step. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FIELDS = ("tool", "arguments", "needs", "success_check", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """kind: added, dropped, changed, replaced (by the step `key`, which stands for `was_key`), or kept (it succeeded and
    stays as it is). fields: (name, before, after) of what is different."""

    kind: str
    key: str
    was_key: str = ""
    tool: str = ""
    fields: tuple[tuple[str, Any, Any], ...] = ()


def changes(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], *, succeeded: frozenset[str] = frozenset()
) -> list[Change]:
    """From `old` to `new`. succeeded: keys of old steps whose work is done, and which a new plan builds on."""
    was = {str(one["key"]): one for one in old}
    now = {str(one["key"]): one for one in new}
    replaced = {str(one.get("instead_of") or ""): key for key, one in now.items()}
    found = [
        Change(kind="kept", key=key, tool=str(one["tool"])) for key, one in was.items() if key in succeeded - set(now)
    ]
    for key, one in now.items():
        before = was.get(key) or was.get(str(one.get("instead_of") or ""))
        tool = str(one["tool"])
        if before is None:
            found.append(Change(kind="added", key=key, tool=tool))
            continue
        fields = tuple(_fields(before, one))
        if before["key"] != key:
            found.append(Change(kind="replaced", key=key, was_key=str(before["key"]), tool=tool, fields=fields))
        elif fields:
            found.append(Change(kind="changed", key=key, tool=tool, fields=fields))
    gone = [key for key in was if key not in now and key not in succeeded and key not in replaced]
    return [*found, *(Change(kind="dropped", key=key, tool=str(was[key]["tool"])) for key in gone)]


def _fields(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What differs; of arguments each one by itself, None where it is not there."""
    for name in FIELDS:
        old, new = before.get(name), now.get(name)
        if name == "arguments" and isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from ((key, old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key))
        elif old != new:
            yield name, old, new


def same_work(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> bool:
    """Do both call the same tools with the same arguments, whatever their steps are called?"""
    return _calls(old) == _calls(new)


def _calls(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted(f"{one['tool']} {_plain(one['arguments'])}" for one in steps)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name!r}:{_plain(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_plain, value)) + "]"
    return repr(value)
