"""Reading requests strictly."""

from collections.abc import Collection
from typing import Any

from django.http import QueryDict
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request


class LengthRequired(APIException):
    status_code = 411
    default_detail = "Send the body with a Content-Length."
    default_code = "length_required"


def body(request: Request) -> Any:
    """The decoded JSON body.

    Raises:
        LengthRequired: a chunked body, which the parser would take for an empty one.
        ParseError, UnsupportedMediaType, PayloadTooLarge
    """
    meta = request.META
    if meta.get("HTTP_TRANSFER_ENCODING") and not meta.get("CONTENT_LENGTH"):
        raise LengthRequired()
    return request.data


def empty_body(request: Request) -> None:
    """Raises ValidationError where an operation that takes no input got some."""
    given = body(request)
    if isinstance(given, dict):
        if given:
            raise ValidationError({name: ["Unknown field."] for name in given})
    elif not isinstance(given, QueryDict):
        raise ValidationError("This operation takes no body.")


def check_query(request: Request, known: Collection[str]) -> None:
    """Raises ValidationError naming each query parameter that the operation does not have."""
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        raise ValidationError({name: ["Unknown query parameter."] for name in unknown})


def whole_number(request: Request, name: str, *, default: int, low: int, high: int) -> int:
    """Raises ValidationError."""
    given = request.query_params.get(name)
    if given is None:
        return default
    if not given.isascii() or not given.isdigit() or len(given) > 10 or not low <= int(given) <= high:
        raise ValidationError({name: [f"Must be a whole number from {low} to {high}."]})
    return int(given)
