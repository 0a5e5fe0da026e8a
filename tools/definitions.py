"""What the definition of a tool by others must be like, wherever it comes from, and the digest that pins it. Pure."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema.exceptions import SchemaError

from audit.canonical import canonical_json
from audit.errors import NotCanonical
from tools import registry
from tools.spec import Effect

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}(\.[a-z][a-z0-9_]{0,39}){1,2}")
# First words of names that the server's own rules may allow, now or later.
RESERVED = frozenset({"agent", "artifacts", "code", "files", "git", "http", "human", "job", "llm"}) | frozenset(
    {"mcp", "memory", "secrets", "shell", "tool", "tools", "workspace"}
)
SIZE_MAX_BYTES = 128 * 1024
SUMMARY_MAX = 1000
DEPTH_MAX = 20
_KEYWORDS_ELSEWHERE = ("$ref", "$dynamicRef", "$schema", "$id", "$anchor", "$dynamicAnchor", "$vocabulary")


def digest_of(definition: Mapping[str, Any]) -> str:
    """SHA-256, hex, of a definition; what is accepted is bound to it. Raises NotCanonical."""
    return hashlib.sha256(b"countersign-tool/v1\n" + canonical_json(dict(definition))).hexdigest()


def flaw(name: str, origin: str, definition: Mapping[str, Any]) -> str:
    """Why a tool like this may never be used here, in a sentence; "" where it may."""
    return next(_flaws(name, origin.partition(":")[0], definition), "")


def _flaws(name: str, kind: str, definition: Mapping[str, Any]) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield "Its name is not like `weather.today`: two or three words in lower case, with dots between them."
    first = name.partition(".")[0]
    own = any(tool.name.partition(".")[0] == first for tool in registry.builtin())
    if (own or first in RESERVED) and first != kind:
        yield f"Names that begin with `{first}.` are the server's own: its rules may allow them."
    if definition.get("name") != name:
        yield "It is defined under another name."
    try:
        size = len(canonical_json(dict(definition)))
    except NotCanonical as error:
        yield f"Its definition is no plain JSON: {error}"
        return
    if size > SIZE_MAX_BYTES:
        yield f"Its definition is longer than {SIZE_MAX_BYTES} bytes."
    summary = definition.get("summary")
    if not isinstance(summary, str) or not summary.strip() or len(summary) > SUMMARY_MAX:
        yield f"Its summary is not one of 1 to {SUMMARY_MAX} characters."
    elif any(not char.isprintable() for char in summary):
        yield "Its summary holds characters that cannot be seen."
    if definition.get("effect") not in set(Effect):
        yield f"Its effect is none of {', '.join(Effect)}."
    yield from _schema_flaws(definition.get("schema"))
    yield from _example_flaws(definition)


def _schema_flaws(schema: Any) -> Iterator[str]:
    if not isinstance(schema, dict) or schema.get("type") != "object":
        yield "Its schema is not one of an object."
        return
    if schema.get("additionalProperties") is not False:
        yield "Its schema takes fields that it does not name: `additionalProperties` must be false."
    for keyword in _elsewhere(schema, depth=0):
        yield f"Its schema {keyword}."
    try:
        registry.validator_of(schema).check_schema(schema)
    except SchemaError as error:
        yield f"Its schema is no JSON Schema 2020-12: {error.message[:200]}"


def _elsewhere(value: Any, *, depth: int) -> Iterator[str]:
    """What would make the schema mean what does not stand in it."""
    if depth > DEPTH_MAX:
        yield f"is nested deeper than {DEPTH_MAX} levels"
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _KEYWORDS_ELSEWHERE and isinstance(inner, str) and not _harmless(key, inner):
                yield f"has {key} {inner[:80]!r}"
            yield from _elsewhere(inner, depth=depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _elsewhere(inner, depth=depth + 1)


def _harmless(key: str, value: str) -> bool:
    """A place within the schema itself, or the dialect that it is read as anyway."""
    if key == "$schema":
        return value.rstrip("#") == "https://json-schema.org/draft/2020-12/schema"
    return key == "$ref" and value.startswith("#/")


def _example_flaws(definition: Mapping[str, Any]) -> Iterator[str]:
    examples, schema = definition.get("examples", []), definition.get("schema")
    if not isinstance(examples, list) or not isinstance(schema, dict):
        return
    for number, one in enumerate(examples, start=1):
        error = next(registry.validator_of(schema).iter_errors(one), None)
        if error is not None:
            yield f"Its example {number} does not fit its schema: {error.message[:200]}"
