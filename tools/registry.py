"""The tools that this server has, by name."""

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from tools.errors import InvalidArguments, UnknownTool
from tools.spec import Tool

_tools: dict[str, Tool] = {}
_validators: dict[str, Draft202012Validator] = {}


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


def get(name: str) -> Tool:
    """Raises UnknownTool."""
    try:
        return _tools[name]
    except KeyError:
        raise UnknownTool(f"There is no tool {name!r}.", known=sorted(_tools)) from None


def every() -> list[Tool]:
    """All tools, by name."""
    return [_tools[name] for name in sorted(_tools)]


def validate(tool: Tool, arguments: Mapping[str, Any]) -> None:
    """Checks arguments by the tool's schema, then by the tool's own `check`.

    Raises:
        InvalidArguments: with the path of the first wrong field.
        ToolRefused: the tool will not take these arguments.
    """
    error = next(iter(sorted(_validators[tool.name].iter_errors(dict(arguments)), key=_depth)), None)
    if error is not None:
        field, message = _told(error)
        raise InvalidArguments(message, field=field)
    tool.check(arguments)


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
    get(name)
    del _tools[name], _validators[name]
