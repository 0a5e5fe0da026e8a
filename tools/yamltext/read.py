"""YAML or JSON text into data, with the place of every key and value.

Read by YAML 1.2's core rules, of which JSON is a part: `on`, `yes` and `2024-01-01` are text, and a name that stands
twice is an error. Anchors, tags and further documents are refused: nothing here needs them, and they are how a small
file becomes a huge one.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from tools.yamltext.places import START, Path, Place, Places, Problem, written

SOURCE_MAX_BYTES = 256 * 1024
DEPTH_MAX = 32
_NUMBER_MAX = 2**53 - 1

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_SURROGATE = re.compile("[\ud800-\udfff]")
# An escaped backslash, or what JSON writes for one character beyond U+FFFF
_PAIR = re.compile(r"\\\\|\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a source says. `data` is None where it could not be read to its end."""

    data: Any
    places: Places
    problems: tuple[Problem, ...] = ()


def parse(source: str) -> Document:
    """Reads a source; what is wrong with its text stands in `problems`, and the rest can still be checked."""
    reader = _Reader()
    size = len(source.encode("utf-8", "surrogatepass"))
    if size > SOURCE_MAX_BYTES:
        return _unread(
            Problem(1, 1, "", f"A definition has at most {SOURCE_MAX_BYTES // 1024} KiB; this has {size} bytes.")
        )
    surrogate = _SURROGATE.search(source)
    if surrogate is not None:
        return _unread(_at(source, surrogate.start(), "The text is not valid Unicode."))
    if source.lstrip(" \t\r\n\ufeff")[:1] == "{":
        # JSON: it may be indented by tabs, and writes some characters as two; YAML knows neither
        source = _PAIR.sub(_joined, source.replace("\t", " "))
    try:
        data = reader.read(source)
    except _Stop as stop:
        return _unread(*reader.problems, stop.problem)
    except yaml.YAMLError as error:
        return _unread(*reader.problems, _told(error, source))
    places = Places(reader.values, reader.keys)
    return Document(data=data, places=places, problems=tuple(reader.problems))


def _unread(*problems: Problem) -> Document:
    return Document(data=None, places=Places({}, {}), problems=problems)


class _Stop(Exception):
    """Reading on makes no sense."""

    def __init__(self, event: yaml.Event | None, message: str) -> None:
        place = _place(event) if event is not None else START
        self.problem = Problem(place.line, place.column, "", message)


@dataclass(slots=True)
class _Open:
    """A list or an object that has begun. `key` is the name whose value comes next."""

    holder: list[Any] | dict[str, Any]
    path: Path
    key: str | None = None
    lost: int = field(default=0)  # values under names that are no text or stand twice are kept apart


class _Reader:
    def __init__(self) -> None:
        self.values: dict[Path, Place] = {}
        self.keys: dict[Path, Place] = {}
        self.problems: list[Problem] = []
        self._stack: list[_Open] = []
        self._root: list[Any] = []

    def read(self, source: str) -> Any:
        """Raises _Stop, yaml.YAMLError."""
        documents = 0
        for event in yaml.parse(source, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _Stop(event, "One definition a file: a second document begins here.")
            elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise _Stop(event, "Anchors and aliases are not taken: write it out.")
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent, yaml.ScalarEvent)):
                self._begin(event)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                self._stack.pop()
        if not self._root:
            raise _Stop(None, "The definition is empty.")
        return self._root[0]

    def _begin(self, event: yaml.Event) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!":
            raise _Stop(event, f"Tags are not taken: {tag[:60]!r}.")
        top = self._stack[-1] if self._stack else None
        if top is not None and isinstance(top.holder, dict) and top.key is None:
            top.key = self._name(event, top)
            return
        path = self._put_path(top)
        self.values[path] = _place(event)
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path)
        else:
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._put(top, value)
        if not isinstance(event, yaml.ScalarEvent):
            if len(self._stack) >= DEPTH_MAX:
                raise _Stop(event, f"Nested deeper than {DEPTH_MAX} levels.")
            self._stack.append(_Open(value, path))

    def _name(self, event: yaml.Event, top: _Open) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise _Stop(event, "A name must be text.")
        name = self._text(event, top.path)
        path, place = (*top.path, name), _place(event)
        if name in top.holder:
            first = self.keys[path]
            self._add(place, path, f"The name {name[:80]!r} stands twice: first on line {first.line}.")
            top.lost += 1
            return f"{name}\0{top.lost}"  # dropped by `_put`
        self.keys[path] = place
        return name

    def _put_path(self, top: _Open | None) -> Path:
        if top is None:
            return ()
        if isinstance(top.holder, dict):
            return (*top.path, top.key or "")
        return (*top.path, len(top.holder))

    def _put(self, top: _Open | None, value: Any) -> None:
        if top is None:
            self._root.append(value)
        elif isinstance(top.holder, list):
            top.holder.append(value)
        else:
            if "\0" not in (top.key or ""):
                top.holder[top.key or ""] = value
            top.key = None

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> Any:
        text = event.value
        if not event.implicit[0]:  # quoted, or a block
            return self._text(event, path)
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text) and len(text) < 400:
            return self._number(event, path, int(text))
        if _FLOAT.fullmatch(text):
            return self._number(event, path, float(text))
        return self._text(event, path)

    def _number(self, event: yaml.Event, path: Path, value: float) -> float:
        if abs(value) > _NUMBER_MAX:
            self._add(_place(event), path, "Numbers must be within ±(2^53 - 1).")
            return 0
        return value

    def _text(self, event: yaml.ScalarEvent, path: Path) -> str:
        text: str = event.value
        if "\0" in text:
            self._add(_place(event), path, "Must not hold a NUL character.")
            text = text.replace("\0", "")
        return text

    def _add(self, place: Place, path: Path, message: str) -> None:
        self.problems.append(Problem(place.line, place.column, written(path), message))


def _place(event: yaml.Event) -> Place:
    mark: Any = event.start_mark
    return Place(mark.line + 1, mark.column + 1)


def _told(error: yaml.YAMLError, source: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        what = ", ".join(
            str(part) for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part
        )
        return Problem(mark.line + 1, mark.column + 1, "", f"This is no YAML: {what}.")
    at = getattr(error, "position", None)
    what = getattr(error, "reason", None) or str(error).splitlines()[0]
    return _at(source, at if isinstance(at, int) else 0, f"This is no YAML: {what}.")


def _at(source: str, offset: int, message: str) -> Problem:
    before = source[:offset]
    return Problem(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1, "", message)


def _joined(found: re.Match[str]) -> str:
    if found[1] is None:
        return found[0]
    return f"\\U{0x10000 + ((int(found[1], 16) - 0xD800) << 10) + int(found[2], 16) - 0xDC00:08x}"
