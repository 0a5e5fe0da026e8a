"""What every endpoint shares and settings name: the parser of JSON bodies and the problems in the OpenAPI document."""

import codecs
import json
from collections.abc import Iterable, Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer


class PayloadTooLarge(APIException):
    status_code = 413
    default_detail = "The body is too large."
    default_code = "body_too_large"


class StrictJSONParser(BaseParser):
    """UTF-8 JSON (RFC 8259) and nothing looser: no NaN, no repeated names, at most `DATA_UPLOAD_MAX_MEMORY_SIZE` bytes.

    Repeated names are refused since two readers may pick different ones.
    """

    media_type = "application/json"
    renderer_class = JSONRenderer

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise PayloadTooLarge(f"The body is larger than {limit} bytes.")
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError:
            raise ParseError("Malformed JSON: the body is not UTF-8.", code="malformed_json") from None
        if text.startswith(codecs.BOM_UTF8.decode()):
            raise ParseError("Malformed JSON: the body starts with a byte order mark.", code="malformed_json")
        try:
            return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno}, column {error.colno}"
            raise ParseError(f"Malformed JSON: {error.msg} ({where}).", code="malformed_json") from None
        except (ValueError, RecursionError) as error:
            why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise ParseError(f"Malformed JSON: {why}.", code="malformed_json") from None


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name[:80]!r} stands twice in one object")
        found[name] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


PROBLEM = {
    "type": "object",
    "description": "An error (RFC 9457). `code` is stable; `errors` names each wrong field.",
    "required": ["type", "title", "status", "detail", "instance", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
_ALWAYS = {
    "401": "No valid credentials.",
    "403": "Not allowed, or the token lacks the scope.",
    "429": "Too many requests; `Retry-After` says when to come back.",
}
_WITH_INPUT = {"400": "Something given is wrong; `errors` names the fields."}
_WITH_BODY = {"413": "The body is too large.", "415": "The body is not application/json."}
_WITH_ID = {"404": "There is no such thing for this user."}


def declare_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A drf-spectacular hook: every operation declares its problems; what it declares itself stays."""
    result.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM
    for path, operations in result.get("paths", {}).items():
        for method, operation in operations.items():
            if not isinstance(operation, dict) or "responses" not in operation:
                continue
            declared = dict(_ALWAYS)
            if operation.get("parameters") or method in {"post", "put", "patch"}:
                declared |= _WITH_INPUT
            if "requestBody" in operation:
                declared |= _WITH_BODY
            if "{" in path:
                declared |= _WITH_ID
            for status, description in {**declared, "default": "Any other error."}.items():
                operation["responses"].setdefault(status, {"description": description})
            for status, response in operation["responses"].items():
                if status == "default" or status.startswith(("4", "5")):
                    response["content"] = {
                        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                    }
    return result
