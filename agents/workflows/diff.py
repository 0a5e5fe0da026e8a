"""What changed between two versions: by step and field in words, and line by line."""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agents.models import WorkflowVersion

VALUE_MAX_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """kind: added, removed or changed; step: its key, or "" for the workflow itself; field: where within it, or "" for
    a whole step; was, now: the values as JSON, bounded, "" where there is none."""

    kind: str
    step: str = ""
    field: str = ""
    was: str = ""
    now: str = ""

    def __str__(self) -> str:
        what = f"step {self.step}" if self.step else ""
        what = f"{what}: {self.field}" if what and self.field else what or self.field
        if self.kind == "changed":
            return f"{what} changed from {self.was} to {self.now}"
        value = self.now or self.was
        return f"{what} {self.kind}" + (f": {value}" if self.field and value else "")

    def as_json(self) -> dict[str, str]:
        return {"kind": self.kind, "step": self.step, "field": self.field, "was": self.was, "now": self.now}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """The differences of two definitions: the workflow's own fields, then steps as the new one has them in order."""
    found = list(_fields("", _own(old), _own(new)))
    was, now = _steps(old), _steps(new)
    found += [Change(kind="removed", step=key) for key in was if key not in now]
    for key, step in now.items():
        if key not in was:
            found.append(Change(kind="added", step=key, now=_shown(step)))
        else:
            found += _fields(key, was[key], step)
    before = [key for key in was if key in now]
    after = [key for key in now if key in was]
    if before != after:
        found.append(Change(kind="changed", field="order of steps", was=", ".join(before), now=", ".join(after)))
    return found


def unified(old: WorkflowVersion, new: WorkflowVersion) -> str:
    """The text's difference as `diff -u` writes it; "" where it is the same."""
    lines = difflib.unified_diff(
        old.source.splitlines(), new.source.splitlines(), fromfile=str(old), tofile=str(new), lineterm=""
    )
    return "\n".join(lines)


def between(old: WorkflowVersion, new: WorkflowVersion) -> list[Change]:
    return changes(old.definition or {}, new.definition or {})


def _own(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in definition.items() if name != "steps"}


def _steps(definition: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["key"]: {name: one for name, one in step.items() if name != "key"} for step in definition["steps"]}


def _fields(step: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    was, now = dict(_leaves(old, "")), dict(_leaves(new, ""))
    for field in [*was, *(one for one in now if one not in was)]:
        if field not in now:
            yield Change(kind="removed", step=step, field=field, was=_shown(was[field]))
        elif field not in was:
            yield Change(kind="added", step=step, field=field, now=_shown(now[field]))
        elif was[field] != now[field] or type(was[field]) is not type(now[field]):
            yield Change(kind="changed", step=step, field=field, was=_shown(was[field]), now=_shown(now[field]))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Objects are told field by field; lists as wholes, since their places mean little."""
    if isinstance(value, Mapping) and (value or not path):
        for name, one in value.items():
            yield from _leaves(one, f"{path}.{name}".removeprefix("."))
    else:
        yield path, value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= VALUE_MAX_CHARS else f"{text[: VALUE_MAX_CHARS - 1]}…"


def kind_of_line(text: str) -> str:
    """Of a line of a unified difference: head, added, removed or same."""
    if text.startswith(("+++", "---", "@@")):
        return "head"
    return {"+": "added", "-": "removed"}.get(text[:1], "same")
