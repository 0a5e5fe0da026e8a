"""The tools that this server has, by name: its own, and those of sources, which may come and go while it runs.

The server's own are found without a look at anything. A source says by a small query which tools it has now; every
process asks at most once a second, and at the one door (`tools.runner`) for each call.
"""

import time
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import referencing
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from tools.errors import InvalidArguments, ToolDisabled, UnknownTool
from tools.spec import Tool

FRESH_S = 1.0

_tools: dict[str, Tool] = {}
_validators: dict[str, Draft202012Validator] = {}


class Source(Protocol):
    """Where further tools come from, such as plugins (`tools.admission`). Called by many threads."""

    def version(self) -> Hashable:
        """Tells apart what it has at different times. Cheap: one small query."""
        ...

    def tools(self, version: Hashable) -> Iterable[Tool]:
        """What may be used now. Their names are no names of the server's own tools."""
        ...

    def why_not(self, name: str) -> str:
        """Why the tool of this name may not be used, in a sentence; "" of one that it has never known."""
        ...


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a source had at a moment (`time.monotonic()`). Replaced as a whole, never changed."""

    at: float = -FRESH_S
    version: Hashable = None
    tools: Mapping[str, Tool] = field(default_factory=dict)


_sources: dict[Source, _Seen] = {}


def register(tool: Tool) -> Tool:
    """Adds a tool; its schema is checked here.

    Raises:
        ValueError: the name is taken, or the schema accepts unknown fields.
    """
    if tool.name in _tools:
        raise ValueError(f"tool {tool.name} is registered twice")
    if tool.schema.get("additionalProperties") is not False:
        raise ValueError(f"tool {tool.name}: schema must refuse unknown fields")
    Draft202012Validator.check_schema(tool.schema)
    _tools[tool.name] = tool
    _validators[tool.name] = Draft202012Validator(tool.schema)
    return tool


def add_source(source: Source) -> None:
    """Takes in what this source has, from now on."""
    _sources.setdefault(source, _Seen())


def forget() -> None:
    """Asks every source anew at the next call: something was changed by this process, and is seen by it at once."""
    for source in _sources:
        _sources[source] = _Seen()


def get(name: str, *, at_once: bool = False) -> Tool:
    """at_once: a change that is committed is seen, however young; else within a second.

    Raises:
        UnknownTool: there is none of this name; ToolDisabled: it may not be used.
    """
    if (own := _tools.get(name)) is not None:
        return own
    for source in _sources:
        if (tool := _look(source, at_once=at_once).get(name)) is not None:
            return tool
    for source in _sources:
        if why := source.why_not(name):
            raise ToolDisabled(why, tool=name)
    raise UnknownTool(f"There is no tool {name!r}.", known=[tool.name for tool in every()])


def every() -> list[Tool]:
    """All tools that may be used, by name."""
    found = {name: tool for source in _sources for name, tool in _look(source).items()} | _tools
    return [found[name] for name in sorted(found)]


def builtin() -> list[Tool]:
    """The server's own tools, by name. Looks at nothing, so that it may be called before there is a database."""
    return [_tools[name] for name in sorted(_tools)]


def _look(source: Source, *, at_once: bool = False) -> Mapping[str, Tool]:
    seen = _sources[source]
    now = time.monotonic()
    if not at_once and now - seen.at < FRESH_S:
        return seen.tools
    version = source.version()
    if seen.version is None or version != seen.version:
        tools = {tool.name: tool for tool in source.tools(version) if tool.name not in _tools}
        seen = _Seen(now, version, tools)
    else:
        seen = _Seen(now, version, seen.tools)
    _sources[source] = seen
    return seen.tools


def validate(tool: Tool, arguments: Mapping[str, Any]) -> None:
    """Checks arguments by the tool's schema, then by the tool's own `check`.

    Raises:
        InvalidArguments: with the path of the first wrong field.
        ToolRefused: the tool will not take these arguments.
    """
    error = next(iter(sorted(_validator(tool).iter_errors(dict(arguments)), key=_depth)), None)
    if error is not None:
        field, message = _told(error)
        raise InvalidArguments(message, field=field)
    tool.check(arguments)


def _validator(tool: Tool) -> Draft202012Validator:
    return _validators.get(tool.name) or validator_of(tool.schema)


def validator_of(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Of a schema by others: what it refers to outside of itself is never fetched."""
    return Draft202012Validator(dict(schema), registry=referencing.Registry())


def _told(error: ValidationError) -> tuple[str, str]:
    """(path of the wrong field, what is wrong), for people: a missing or unknown field is named by its own path."""
    path = _path(error)
    given, schema = error.instance, error.schema
    if isinstance(given, Mapping) and isinstance(schema, Mapping):
        if error.validator == "required":
            return f"{path}.{next(name for name in schema['required'] if name not in given)}", "This field is required."
        if error.validator == "additionalProperties":
            known = schema.get("properties", {})
            return f"{path}.{next(name for name in given if name not in known)}", "There is no such field."
    return path, error.message


def _depth(error: ValidationError) -> tuple[int, str]:
    return (len(error.absolute_path), error.message)


def _path(error: ValidationError) -> str:
    path = "arguments"
    for part in error.absolute_path:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path


def unregister(name: str) -> None:
    """Takes a tool out, as a test or a removed plugin does. Raises UnknownTool."""
    if name not in _tools:
        raise UnknownTool(f"There is no tool {name!r}.")
    del _tools[name], _validators[name]
