"""What endpoints and the gateways before them say, as our errors."""

import pytest

from agents.llm import errors, refusals


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"code": 401, "message": "no"}}, errors.CredentialsRefused),
        ({"error": {"code": 402, "message": "no"}}, errors.QuotaExhausted),
        ({"error": {"code": 404, "message": "no"}}, errors.ModelNotFound),
        ({"error": {"code": "429", "message": "no"}}, errors.RateLimited),
        ({"error": {"code": 502, "message": "no"}}, errors.EndpointFailed),
        ({"error": {"code": 400, "message": "maximum context length is 8"}}, errors.ContextTooLong),
        ({"error": {"code": 200, "message": "no"}}, errors.EndpointFailed),
        ({"error": {"type": "authentication_error", "message": "no"}}, errors.CredentialsRefused),
        ({"error": {"type": "invalid_request_error", "message": "no"}}, errors.RequestRefused),
        ({"error": "overloaded"}, errors.EndpointFailed),
    ],
)
def test_an_error_within_an_answer_is_what_its_status_would_have_been(body, kind):
    """Gateways answer 200, begin a stream, and put the status of who they asked into the error."""
    assert type(refusals.by_body(body)) is kind


@pytest.mark.parametrize("status", [402, 403, 429])
def test_want_of_money_is_none_of_the_keys_or_the_rate(status):
    body = {"error": {"code": "insufficient_quota", "message": "pay"}}
    assert type(refusals.by_status(status, "", body, {})) is errors.QuotaExhausted
