"""The source of a prompt: its shape, and everything that is wrong with it, each at its line."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from agents.engine import expressions
from agents.engine.expressions import InvalidExpression
from agents.prompts import given
from agents.workflows.schema import NAME, bounded, told
from tools.yamltext.places import Path, Places, Problem
from tools.yamltext.read import parse

HOLE = re.compile(r"(?<!\$)\{\{\s*([A-Za-z_]\w*)\s*\}\}")  # `${{ … }}` is CEL that a prompt speaks of
EXPECT_NAMES = frozenset({"inputs", "answer", "text"})
TEXT_MAX_CHARS = 20_000
CASES_MAX = 100

_text = {"type": "string", "maxLength": TEXT_MAX_CHARS}
_expect = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 2000}, "maxItems": 32}
CASE_NAME = {"type": "string", "pattern": NAME, "maxLength": 80}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A prompt",
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": NAME, "maxLength": 80},
        "title": {"type": "string", "minLength": 1, "maxLength": 200},
        "description": _text,
        "variables": {
            "type": "object",
            "propertyNames": {"pattern": r"^[A-Za-z_]\w*$", "maxLength": 60},
            "additionalProperties": {"type": "object"},
            "maxProperties": 32,
        },
        "untrusted": {"type": "array", "items": {"type": "string"}, "maxItems": 32, "uniqueItems": True},
        "system": {**_text, "minLength": 1},
        "user": {**_text, "minLength": 1},
        "answer": {"type": "object"},
        "cases": {
            "type": "array",
            "maxItems": CASES_MAX,
            "items": {
                "type": "object",
                "properties": {
                    "name": CASE_NAME,
                    "inputs": {"type": "object"},
                    "renders": {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 32},
                    "recorded": {"anyOf": [{"type": "object"}, {"type": "string"}]},
                    "by": {"type": "string", "minLength": 1, "maxLength": 120},
                    "usable": {"type": "boolean"},
                    "expect": _expect,
                },
                "required": ["name", "inputs"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["name", "system", "user"],
    "additionalProperties": False,
}
_validator = Draft202012Validator(SCHEMA)
_Fault = tuple[Path, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a source says, and what is wrong with it, in the order of the text. data: None where it is no object."""

    data: dict[str, Any] | None
    problems: tuple[Problem, ...]


def check(source: str) -> Checked:
    """Reads and checks a definition."""
    document = parse(source)
    found = list(document.problems)
    if document.data is not None or not document.problems:
        found += _problems(document.data, document.places)
    data = document.data if isinstance(document.data, dict) else None
    return Checked(data=data, problems=tuple(sorted(set(found)))[:500])


def variables_schema(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of the inputs: an object whose variables without a default are all there, and no others."""
    properties = definition.get("variables") or {}
    required = [name for name, one in properties.items() if "default" not in one]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def holes(text: str) -> set[str]:
    """The variables that a text names."""
    return set(HOLE.findall(text))


def _problems(data: Any, places: Places) -> list[Problem]:
    shape = list(told(_validator, data))
    if shape:
        return [places.problem(path, bounded(message), key=key) for path, message, key in shape]
    return [places.problem(path, bounded(message)) for path, message in _faults(data)]


def _faults(data: dict[str, Any]) -> Iterator[_Fault]:
    known = set(data.get("variables") or {})
    for part in ("system", "user"):
        for name in sorted(holes(data[part]) - known):
            yield (part,), f"There is no variable {name!r}."
    for name in sorted(set(data.get("untrusted", ())) & holes(data["system"])):
        yield ("system",), f"{name!r} is untrusted: it belongs into the user's text."
    for place, name in enumerate(data.get("untrusted", ())):
        if name not in known:
            yield ("untrusted", place), f"There is no variable {name!r}."
    for name in sorted(known - holes(data["system"]) - holes(data["user"])):
        yield ("variables", name), "No text uses it."
    yield from given.faults(data)
    yield from _schema_faults(data)
    seen: set[str] = set()
    for place, case in enumerate(data.get("cases", ())):
        if case["name"] in seen:
            yield ("cases", place, "name"), f"The name {case['name']!r} is used twice."
        seen.add(case["name"])
        yield from _case_faults(data, case, ("cases", place))


def _schema_faults(data: dict[str, Any]) -> Iterator[_Fault]:
    for name, one in (data.get("variables") or {}).items():
        yield from _schema_fault(one, ("variables", name))
    answer = data.get("answer")
    if answer is None:
        return
    yield from _schema_fault(answer, ("answer",))
    if answer.get("type") != "object":
        yield ("answer", "type"), "An answer is an object; leave `answer` out for text."


def _schema_fault(schema: dict[str, Any], path: Path) -> Iterator[_Fault]:
    if '"$ref"' in json.dumps(schema):
        yield path, "References are not taken: write it out."
        return
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        yield path, f"This is no JSON Schema: {error.message}"


def _case_faults(data: dict[str, Any], case: dict[str, Any], path: Path) -> Iterator[_Fault]:
    if "recorded" in case and "by" not in case:
        yield path, "Say which model gave the recorded answer: by."
    if case.get("usable") is False and case.get("expect"):
        yield (*path, "expect"), "Of an answer that cannot be used nothing is expected."
    for place, text in enumerate(case.get("expect", ())):
        try:
            expressions.check(text, EXPECT_NAMES)
        except InvalidExpression as error:
            yield (*path, "expect", place), error.message
