"""What an endpoint says when it does not answer, as one of our errors."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from agents.llm.errors import (
    ContextTooLong,
    CredentialsRefused,
    EndpointFailed,
    LlmError,
    ModelNotFound,
    QuotaExhausted,
    RateLimited,
    Redirected,
    RequestRefused,
)

TOLD_LIMIT_CHARS = 500
RETRY_AFTER_MOST_S = 600.0
_NO_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_TOO_LONG = ("context_length_exceeded", "maximum context length", "context length", "context window", "too many tokens")


def by_status(status: int, message: str, body: object, headers: Mapping[str, str]) -> LlmError:
    """The error of an HTTP status. `body` is the answer as JSON or text; `headers` with names in lower case."""
    code, told = _told(body, message)
    if status == 402 or code in _NO_MONEY:
        return QuotaExhausted(f"The endpoint's quota is used up: {told}")
    if status == 429:
        return RateLimited(f"The endpoint limits the rate: {told}", retry_after_s=retry_after_s(headers))
    if status in (401, 403):
        return CredentialsRefused(f"The endpoint refuses the key ({status}): {told}")
    if status == 404:
        return ModelNotFound(f"The endpoint knows no such model or path (404): {told}")
    if 300 <= status < 400:
        return redirected(status, headers.get("location", ""))
    if status in (408, 409, 425) or status >= 500:
        return EndpointFailed(f"The endpoint failed ({status}): {told}", retry_after_s=retry_after_s(headers))
    if any(sign in f"{code} {told}".lower() for sign in _TOO_LONG):
        return ContextTooLong(f"The conversation is too long for the model: {told}")
    return RequestRefused(f"The endpoint refuses the request ({status}): {told}")


def by_body(body: object) -> LlmError:
    """The error of an `{"error": …}` that came with status 200 or in mid-stream."""
    code, told = _told(body, "no reason given")
    if code.isdigit() and 400 <= int(code) < 600:  # gateways put their upstream's status there
        return by_status(int(code), told, body, {})
    if code in _NO_MONEY:
        return QuotaExhausted(f"The endpoint's quota is used up: {told}")
    if "rate_limit" in code:
        return RateLimited(f"The endpoint limits the rate: {told}")
    if any(sign in f"{code} {told}".lower() for sign in _TOO_LONG):
        return ContextTooLong(f"The conversation is too long for the model: {told}")
    if code in ("invalid_api_key", "authentication_error"):
        return CredentialsRefused(f"The endpoint refuses the key: {told}")
    if code == "invalid_request_error":
        return RequestRefused(f"The endpoint refuses the request: {told}")
    return EndpointFailed(f"The endpoint failed: {told}")


def redirected(status: int, location: str) -> LlmError:
    return Redirected(f"The endpoint answered {status} (to {location[:200] or 'nowhere'}); redirects are not followed.")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms`, or `retry-after` in seconds or as an HTTP date (RFC 9110, 10.2.3); bounded."""
    seconds: float | None = None
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        elif "retry-after" in headers:
            value = headers["retry-after"].strip()
            seconds = float(value) if value[:1].isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    if seconds is None or not seconds >= 0:
        return None
    return min(seconds, RETRY_AFTER_MOST_S)


def _told(body: object, default: str) -> tuple[str, str]:
    """The endpoint's own code (or type) and words, bounded. Servers differ in how deep they put them."""
    inner: Any = body
    if isinstance(inner, dict) and "error" in inner:
        inner = inner["error"]
    if isinstance(inner, dict):
        code = inner.get("code") or inner.get("type") or ""
        told = inner.get("message") or default
    else:
        code, told = "", inner if isinstance(inner, str) and inner.strip() else default
    told = str(told)
    if told.lstrip()[:1] == "<":
        told = "a web page"
    return str(code), told[:TOLD_LIMIT_CHARS]
