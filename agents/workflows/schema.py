"""The shape of a definition: JSON Schema 2020-12, and its faults in words, each by its path."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError

from tools.yamltext.places import Path

STEPS_MAX = 1000
NAME = r"^[a-z0-9][a-z0-9_-]*$"
KEY = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
RESERVED_KEYS = frozenset({"prepare"})
ERROR_CLASSES = ["transient", "rate_limit", "bad_input", "denied", "timeout", "resource", "bug", "lost"]
DURATION = r"^([0-9]+)(s|m|h|d)$"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

_text = {"type": "string", "maxLength": 20_000}
_cel = {"type": "string", "minLength": 1, "maxLength": 2000}
_duration = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": DURATION}]}
_call = {
    "type": "object",
    "properties": {"tool": {"type": "string", "maxLength": 120}, "arguments": {"type": "object"}},
    "required": ["tool"],
    "additionalProperties": False,
}
_CODE = r"^[a-z][a-z0-9_]*$"
_fallback = {
    **_call,
    "properties": {
        **_call["properties"],  # type: ignore[dict-item]
        "on": {
            "type": "array",
            "items": {"type": "string", "pattern": _CODE, "maxLength": 60},
            "minItems": 1,
            "maxItems": 16,
            "uniqueItems": True,
        },
    },
}
_RETRY = {
    "type": "object",
    "properties": {
        "max_attempts": {"type": "integer", "minimum": 1, "maximum": 50},
        "delay": _duration,
        "backoff": {"type": "number", "minimum": 1, "maximum": 10},
        "max_delay": _duration,
        "on": {"type": "array", "items": {"enum": ERROR_CLASSES}, "minItems": 1, "uniqueItems": True},
    },
    "additionalProperties": False,
}
_MAP = {
    "type": "object",
    "properties": {
        **_call["properties"],  # type: ignore[dict-item]
        "over": {"anyOf": [_cel, {"type": "array"}, {"type": "integer", "minimum": 0}]},
        "chunk": {"type": "integer", "minimum": 1, "maximum": 1000},
        "parallel": {"type": "integer", "minimum": 1, "maximum": 1000},
        "max_failures": {"type": "integer", "minimum": 0},
    },
    "required": ["over", "tool"],
    "additionalProperties": False,
}
KINDS = ("tool", "map", "workflow", "goal")
# What belongs to which kind of step; everything else belongs to all.
BELONGS = {
    "arguments": {"tool"},
    "retry": {"tool"},
    "timeout": {"tool"},
    "fallbacks": {"tool"},
    "compensation": {"tool", "map"},
    "inputs": {"workflow"},
    "agent": {"goal"},
    "tools": {"goal"},
    "max_tokens": {"goal"},
}
_STEP: dict[str, Any] = {
    "type": "object",
    "properties": {
        "key": {"type": "string", "pattern": KEY, "maxLength": 80},
        "reason": {"type": "string", "maxLength": 2000},
        "needs": {"type": "array", "items": {"type": "string"}, "maxItems": 200, "uniqueItems": True},
        "needs_success": {"type": "boolean"},
        "when": _cel,
        **_call["properties"],  # type: ignore[dict-item]
        "retry": _RETRY,
        "timeout": _duration,
        "fallbacks": {"type": "array", "items": _fallback, "maxItems": 8},
        "compensation": _call,
        "map": _MAP,
        "workflow": {"type": "string", "pattern": r"^[a-z0-9][a-z0-9_-]*(@[1-9][0-9]{0,8})?$", "maxLength": 90},
        "inputs": {"type": "object"},
        "goal": {"type": "string", "minLength": 1, "maxLength": 20_000},
        "agent": {"type": "string", "maxLength": 80},
        "tools": {"type": "array", "items": {"type": "string", "maxLength": 120}, "minItems": 1, "maxItems": 64},
        "max_tokens": {"type": "integer", "minimum": 1},
    },
    "required": ["key"],
    "additionalProperties": False,
}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A workflow",
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": NAME, "maxLength": 80},
        "title": {"type": "string", "minLength": 1, "maxLength": 200},
        "description": _text,
        "inputs": {"type": "object"},
        "repository": {"enum": ["required", "optional", "none"]},
        "agent": {"type": "string", "maxLength": 80},
        "steps": {"type": "array", "items": _STEP, "minItems": 1, "maxItems": STEPS_MAX},
        "outputs": {
            "type": "object",
            "propertyNames": {"pattern": r"^[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": _cel,
            "maxProperties": 64,
        },
        "concurrency_key": {"type": "string", "minLength": 1, "maxLength": 200},
        "priority": {"type": "integer", "minimum": 0, "maximum": 9},
        "deadline": _duration,
        "labels": {
            "type": "object",
            "propertyNames": {"pattern": r"^[A-Za-z0-9][A-Za-z0-9_./-]*$", "maxLength": 63},
            "additionalProperties": {"type": "string", "maxLength": 200},
            "maxProperties": 32,
        },
    },
    "required": ["name", "steps"],
    "additionalProperties": False,
}
_validator = Draft202012Validator(SCHEMA)
_TYPES = {
    "object": "an object",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
_PATTERNS = {
    NAME: "Small letters, digits, - and _ only, starting with a letter or a digit.",
    KEY: "Letters, digits, - and _ only, starting with a letter or a digit.",
    DURATION: "A time is seconds, or a number with s, m, h or d, such as 10m.",
}

Fault = tuple[Path, str, bool]  # path, message, at the key


def faults(data: Any) -> Iterator[Fault]:
    """What does not have the shape of a definition, and which step is of no kind or of two."""
    if isinstance(data, dict) and isinstance(data.get("steps"), list) and len(data["steps"]) > STEPS_MAX:
        count = len(data["steps"])
        yield (
            ("steps",),
            f"A workflow has at most {STEPS_MAX} steps; this has {count}. A map does much in one step.",
            True,
        )
        data = {**data, "steps": data["steps"][:1]}
    yield from told(_validator, data)
    if isinstance(data, dict):
        for index, step in enumerate(as_list(data.get("steps"))):
            if isinstance(step, dict):
                yield from _kind_faults(step, ("steps", index))
        if isinstance(data.get("inputs"), dict):
            yield from _inputs_faults(data["inputs"])


def told(validator: Draft202012Validator, data: Any, at: Path = ()) -> Iterator[Fault]:
    """The errors of a validation, for people: a missing or unknown field by its own path."""
    for error in validator.iter_errors(data):
        yield from say(error, at)


def say(error: ValidationError, at: Path = ()) -> Iterator[Fault]:
    """One error of a validation as faults."""
    path: Path = (*at, *error.absolute_path)
    given: Any = error.instance
    schema = error.schema
    rule: Any = error.validator_value
    known = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
    if error.validator == "required" and isinstance(given, Mapping):
        missing = next((name for name in rule if name not in given and f"{name!r}" in error.message), "")
        yield (*path, missing), "This field is required.", False
    elif error.validator == "additionalProperties" and rule is False:
        for name in given:
            if name not in known:
                yield (*path, name), f"There is no field {name[:80]!r} here.", True
    elif error.validator == "type" and isinstance(rule, str):
        yield path, f"Must be {_TYPES.get(rule, rule)}.", False
    elif error.validator == "pattern" and rule in _PATTERNS:
        yield path, _PATTERNS[rule], False
    elif error.validator == "enum":
        yield path, f"Must be one of {', '.join(str(one) for one in rule)}.", False
    elif error.validator == "anyOf" and rule == _duration["anyOf"]:
        yield path, _PATTERNS[DURATION], False
    else:
        yield path, bounded(error.message), False


def seconds(duration: int | str) -> int:
    """`90` or `"10m"` in seconds."""
    if isinstance(duration, int):
        return duration
    found = re.fullmatch(DURATION, duration)
    assert found is not None, duration
    return int(found[1]) * _SECONDS[found[2]]


def inputs_schema(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of the inputs, whole: an object that takes no unknown fields unless it says so."""
    given = definition.get("inputs") or {}
    return {"type": "object", "additionalProperties": False, **given}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def bounded(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:297]}…"


def _kind_faults(step: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    kinds = [kind for kind in KINDS if kind in step]
    if not kinds:
        yield path, f"A step does one thing: give it one of {', '.join(KINDS)}.", False
    for extra in kinds[1:]:
        yield (*path, extra), f"A step does one thing: it has {kinds[0]} already.", True
    if len(kinds) == 1:
        for name, belongs in BELONGS.items():
            if name in step and kinds[0] not in belongs:
                yield (*path, name), f"{name} belongs to a step with {' or '.join(sorted(belongs))}.", True


def _inputs_faults(schema: dict[str, Any]) -> Iterator[Fault]:
    if "type" in schema and schema["type"] != "object":
        yield ("inputs", "type"), "Inputs are an object: leave the type out, or say object.", False
        return
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        yield ("inputs", *error.absolute_path), f"This is no JSON Schema: {bounded(error.message)}", False
        return
    for where, part in _subschemas(schema, ("inputs",)):
        reference = part.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            yield (*where, "$ref"), "References stay within the schema (#/…).", False
    properties = schema.get("properties")
    for name, one in properties.items() if isinstance(properties, dict) else ():
        if isinstance(one, dict) and "default" in one:
            for path, message, at_key in told(
                Draft202012Validator({**one, "$defs": schema.get("$defs", {})}),
                one["default"],
                ("inputs", "properties", name, "default"),
            ):
                yield path, f"The default does not fit: {message}", at_key


def _subschemas(value: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
        for name, one in value.items():
            if name not in {"default", "const", "enum", "examples"}:
                yield from _subschemas(one, (*path, name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _subschemas(one, (*path, index))
