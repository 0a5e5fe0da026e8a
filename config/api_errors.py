"""Errors as `application/problem+json` (RFC 9457): the one place that knows HTTP statuses of domain errors."""

import logging
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponsePermanentRedirect, JsonResponse
from django.urls import Resolver404, resolve
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import set_rollback

from agents.errors import AgentsError
from approvals.errors import ApprovalsError
from tools.errors import ToolError

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
DOMAIN_ERRORS: tuple[type[Exception], ...] = (AgentsError, ApprovalsError, ToolError)

# A code that is not named here is a fault of the server's: 500.
STATUS = {
    # agents
    "invalid_input": 400,
    "invalid_plan": 400,
    "unknown_agent": 400,
    "unknown_repository": 400,
    "unknown_tenant": 400,
    "invalid_workflow": 400,
    "invalid_prompt": 400,
    "unknown_workflow": 400,
    "expression_failed": 400,
    "address_refused": 400,
    "delivery_malformed": 400,
    "delivery_unusable": 400,
    "delivery_refused": 400,
    "signature_invalid": 401,
    "delivery_stale": 401,
    "owner_inactive": 403,
    "delivery_replayed": 409,
    "trigger_off": 409,
    "body_too_large": 413,
    "throttled": 429,
    "not_allowed": 403,
    "not_found": 404,
    "gone": 410,
    "already_done": 409,
    "not_now": 409,
    "turn_running": 409,
    "may_have_happened": 409,
    "illegal_transition": 409,
    "step_moved": 409,
    "key_busy": 409,
    "idempotency_conflict": 422,
    "queue_full": 429,
    # approvals
    "invalid_policy": 400,
    "invalid_condition": 400,
    "invalid_verdict": 400,
    "reason_missing": 400,
    "invalid_reason": 400,
    "not_eligible": 403,
    "link_unknown": 404,
    "not_a_draft": 409,
    "not_proposed": 409,
    "same_person": 403,
    "backtest_needed": 409,
    "not_acknowledged": 409,
    "invalid_policy_file": 400,
    "unknown_policy": 404,
    "invalid_trial": 400,
    "already_decided": 409,
    "already_voted": 409,
    "request_expired": 409,
    "link_expired": 410,
    # tools
    "unknown_tool": 400,
    "invalid_arguments": 400,
    "tool_refused": 400,
    "permit_error": 409,
    "permit_mismatch": 409,
    "permit_spent": 409,
    "sandbox_unavailable": 503,
    "over_quota": 409,
    "server_full": 503,
}
# the field that a code is about, where the error itself does not say
FIELDS = {"reason_missing": "reason", "invalid_reason": "reason"}
TITLES = {
    "invalid_input": "The input is not valid",
    "invalid_plan": "The plan is not valid",
    "unknown_agent": "No such agent",
    "unknown_repository": "No such repository",
    "invalid_workflow": "The workflow is not valid",
    "invalid_prompt": "The prompt or suite is not valid",
    "unknown_workflow": "No such workflow",
    "not_allowed": "Not allowed",
    "permission_denied": "Not allowed",
    "not_found": "Not found",
    "gone": "No longer kept",
    "already_done": "The job has ended",
    "not_now": "Not in the state it is in",
    "turn_running": "The agent has not answered yet",
    "may_have_happened": "Steps may have happened",
    "idempotency_conflict": "The Idempotency-Key was used before",
    "queue_full": "The queue is full",
    "unknown_tenant": "No such tenant",
    "key_busy": "Another job has the concurrency key",
    "signature_invalid": "The signature does not hold",
    "delivery_stale": "The delivery is too old",
    "delivery_replayed": "The delivery was taken before",
    "delivery_malformed": "The delivery cannot be read",
    "delivery_unusable": "The delivery does not fit",
    "not_eligible": "You may not decide this",
    "already_decided": "It is decided already",
    "already_voted": "You have voted already",
    "request_expired": "The request has expired",
    "reason_missing": "A reason is needed",
    "malformed_json": "The body is not JSON",
    "body_too_large": "The body is too large",
    "length_required": "The length of the body is not given",
    "unsupported_media_type": "The body's type is not supported",
    "not_authenticated": "Credentials are missing",
    "authentication_failed": "The credentials are not valid",
    "throttled": "Too many requests",
    "server_error": "Something went wrong here",
}


class ProblemRenderer(JSONRenderer):
    media_type = CONTENT_TYPE


def problem(
    *, status: int, code: str, detail: str, instance: str, errors: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    """The problem's members; `errors` are {field, message}."""
    title = TITLES.get(code) or HTTPStatus(status).phrase
    body: dict[str, Any] = {
        "type": f"urn:countersign:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance,
        "code": code,
    }
    if errors:
        body["errors"] = errors
    return body


def problem_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's exception handler. None: not an expected error; Django logs it and `server_error` answers."""
    described = _describe(error)
    if described is None:
        return None
    request = context.get("request")
    status, code, detail, errors, headers = described
    set_rollback()
    body = problem(
        status=status, code=code, detail=detail, instance=getattr(request, "path", ""), errors=list(_fields(errors))
    )
    if request is not None:
        # whatever the view renders otherwise (YAML, HTML), a problem is JSON
        request.accepted_renderer, request.accepted_media_type = ProblemRenderer(), CONTENT_TYPE
    return Response(body, status=status, headers=headers, content_type=CONTENT_TYPE)


Fields = list[tuple[str, str]]
Described = tuple[int, str, str, Fields, dict[str, str]]


def _describe(error: Exception) -> Described | None:
    if isinstance(error, DOMAIN_ERRORS):
        return _domain(error)
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied(*error.args)
    elif isinstance(error, RequestDataTooBig):
        return 413, "body_too_large", "The body is too large.", [], {}
    elif isinstance(error, SuspiciousOperation):
        return 400, "bad_request", "The request cannot be read.", [], {}
    elif isinstance(error, DjangoValidationError):
        return _validation(error.message_dict if hasattr(error, "error_dict") else error.messages)
    if isinstance(error, exceptions.ValidationError):
        return _validation(error.detail)
    if isinstance(error, exceptions.APIException):
        return _api(error)
    return None


def _domain(error: Any) -> Described | None:
    status = STATUS.get(error.code)
    if status is None:
        return None
    fields = list(getattr(error, "problems", ())) or [(getattr(error, "field", FIELDS.get(error.code, "")), str(error))]
    retry = getattr(error, "retry_after_s", None)
    headers = {} if retry is None else {"Retry-After": str(retry)}
    return status, error.code, str(error), [pair for pair in fields if pair[0]], headers


def _api(error: exceptions.APIException) -> Described:
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = error.auth_header  # type: ignore[attr-defined]
    if getattr(error, "wait", None):
        headers["Retry-After"] = str(int(error.wait))  # type: ignore[attr-defined]
    code = error.get_codes()
    if isinstance(error.detail, (list, dict)):
        fields = list(_flatten(error.detail, ""))
        return error.status_code, error.default_code, _sentence(fields), fields, headers
    field = getattr(error, "field", "") or FIELDS.get(str(code), "")
    return error.status_code, str(code), str(error.detail), [(field, str(error.detail))] if field else [], headers


def _validation(detail: Any) -> Described:
    fields = list(_flatten(detail, ""))
    return 400, "invalid_input", _sentence(fields), fields, {}


def _sentence(fields: Fields) -> str:
    if not fields:
        return "The input is not valid."
    field, message = fields[0]
    return f"{field}: {message}" if field else message


def _flatten(detail: Any, path: str) -> Iterator[tuple[str, str]]:
    """DRF's nested details as (path, message)."""
    if isinstance(detail, Mapping):
        for name, value in detail.items():
            here = path if name in {"non_field_errors", "__all__"} else f"{path}.{name}".removeprefix(".")
            yield from _flatten(value, here)
    elif isinstance(detail, (list, tuple)):
        for index, value in enumerate(detail):
            nested = isinstance(value, (Mapping, list, tuple))
            yield from _flatten(value, f"{path}[{index}]" if nested else path)
    else:
        yield path, str(detail)


def _fields(pairs: Fields) -> Iterator[dict[str, str]]:
    for field, message in pairs:
        if field:
            yield {"field": field, "message": message}


def _answer(request: HttpRequest, status: int, code: str, detail: str) -> JsonResponse:
    body = problem(status=status, code=code, detail=detail, instance=request.path)
    return JsonResponse(body, status=status, content_type=CONTENT_TYPE)


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


@csrf_exempt  # there is nothing here to protect, and a page about cookies would mislead
def unknown_url(request: HttpRequest, rest: str = "") -> HttpResponse:
    """The catch-all under /api/: a problem, or a redirect where only the slash at the end is wrong."""
    other = request.path.rstrip("/") if request.path.endswith("/") else f"{request.path}/"
    try:
        known = resolve(other).func is not unknown_url
    except Resolver404:
        known = False
    if known and not other.startswith("//"):
        query = request.META.get("QUERY_STRING", "")
        # 308 keeps method and body (RFC 9110, 15.4.9)
        return HttpResponsePermanentRedirect(f"{other}?{query}" if query else other, preserve_request=True)
    return _answer(request, 404, "not_found", f"There is nothing at {request.path}.")


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Root `handler404`: a problem under /api/, a page elsewhere."""
    if _is_api(request):
        return _answer(request, 404, "not_found", f"There is nothing at {request.path}.")
    return defaults.page_not_found(request, exception)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Root `handler400`."""
    if _is_api(request):
        return _answer(request, 400, "bad_request", "The request cannot be read.")
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Root `handler403`."""
    if _is_api(request):
        return _answer(request, 403, "permission_denied", "You may not do this.")
    return defaults.permission_denied(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Root `handler500`: what happened stands in the server's log, never in the answer."""
    if _is_api(request):
        return _answer(request, 500, "server_error", "The server met an error; it stands in the server's log.")
    return defaults.server_error(request)
