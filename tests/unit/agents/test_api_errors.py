"""Errors become problems (RFC 9457)."""

import io
import json

import pytest
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import Http404
from rest_framework.exceptions import ParseError, Throttled, ValidationError

from agents.errors import IdempotencyConflict, InvalidPlan, NotVisible, QueueFull
from config.api import PayloadTooLarge, StrictJSONParser
from config.api_errors import problem_handler
from tools.errors import InvalidArguments, UnknownTool


def answer(error: Exception):
    response = problem_handler(error, {"request": None})
    assert response is not None
    assert response.content_type == "application/problem+json"
    assert set(response.data) >= {"type", "title", "status", "detail", "instance", "code"}
    assert response.data["status"] == response.status_code
    return response


@pytest.mark.parametrize(
    ("error", "status", "code", "fields"),
    [
        (InvalidPlan("no", problems=[("steps[0].tool", "no"), ("steps[1].key", "no")]), 400, "invalid_plan", 2),
        (NotVisible("no"), 404, "not_found", 0),
        (IdempotencyConflict("no"), 422, "idempotency_conflict", 0),
        (UnknownTool("no"), 400, "unknown_tool", 0),
        (InvalidArguments("no", field="arguments.argv"), 400, "invalid_arguments", 1),
        (Http404(), 404, "not_found", 0),
        (PermissionDenied(), 403, "permission_denied", 0),
        (RequestDataTooBig(), 413, "body_too_large", 0),
        (ParseError("no", code="malformed_json"), 400, "malformed_json", 0),
        (DjangoValidationError({"name": ["no"]}), 400, "invalid_input", 1),
        (ValidationError({"a": {"b": ["no"]}, "c": [{"d": ["no"]}]}), 400, "invalid_input", 2),
        (Throttled(wait=12), 429, "throttled", 0),
    ],
)
def test_an_error_has_its_status_and_code(error, status, code, fields):
    response = answer(error)
    assert (response.status_code, response.data["code"]) == (status, code)
    assert len(response.data.get("errors", [])) == fields


def test_nested_details_become_paths():
    errors = answer(ValidationError({"a": {"b": ["no"]}, "c": [{"d": ["never"]}]})).data["errors"]
    assert errors == [{"field": "a.b", "message": "no"}, {"field": "c[0].d", "message": "never"}]


def test_a_full_queue_and_a_throttle_say_when_to_come_back():
    assert answer(QueueFull(retry_after_s=30)).headers["Retry-After"] == "30"
    assert answer(Throttled(wait=12)).headers["Retry-After"] == "12"


def test_a_bug_is_no_problem_of_the_caller():
    assert problem_handler(ZeroDivisionError(), {"request": None}) is None


def parsed(body: bytes) -> object:
    return StrictJSONParser().parse(io.BytesIO(body))


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"a": 1,}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"b": {"a": 1, "a": 1}}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": "\xff"}',
        b"[" * 100_000,
        b"",
        b"9" * 5000,
    ],
)
def test_loose_json_is_refused(body):
    with pytest.raises(ParseError) as caught:
        parsed(body)
    assert caught.value.get_codes() == "malformed_json"


def test_a_body_over_the_limit_is_refused_without_parsing_it(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    assert parsed(json.dumps("x" * 98).encode()) == "x" * 98
    with pytest.raises(PayloadTooLarge):
        parsed(json.dumps("x" * 99).encode())
