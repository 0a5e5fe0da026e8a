"""Inputs of a run: defaults applied, then checked against the workflow's schema."""

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

from agents.errors import InvalidInput
from agents.workflows.schema import told
from tools.yamltext.places import written


def with_defaults(schema: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, with the defaults of absent properties, also within objects."""
    values = dict(given)
    properties = schema.get("properties", {})
    for name, one in properties.items() if isinstance(properties, Mapping) else ():
        if not isinstance(one, Mapping):
            continue
        if name not in values and "default" in one:
            values[name] = one["default"]
        if isinstance(values.get(name), Mapping):
            values[name] = with_defaults(one, values[name])
    return values


def check_inputs(schema: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs whole.

    Raises:
        InvalidInput: with every wrong field by its path (`inputs.version`).
    """
    values = with_defaults(schema, given)
    problems = [
        (written(path), message) for path, message, _ in told(Draft202012Validator(dict(schema)), values, ("inputs",))
    ]
    if problems:
        raise InvalidInput(f"{problems[0][0]}: {problems[0][1]}", problems=problems)
    return values
