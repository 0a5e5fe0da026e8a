"""Errors of one call to a model endpoint.

LlmError
├── EndpointUnreachable   no connection: name, network, TLS, refused
├── EndpointTimeout       not answered within the deadline
├── CallCancelled         whoever asked no longer wants the answer
├── EndpointFailed        the endpoint says that it failed (5xx, 408, 409, an error object)
├── RateLimited           429; `retry_after_s` where the endpoint says it
├── QuotaExhausted        429 for want of money: no retry helps
├── CredentialsRefused    401, 403
├── ModelNotFound         404: the model's name or the base URL is wrong
├── RequestRefused        400, 413, 422 and other 4xx
│   └── ContextTooLong    the conversation does not fit the model
├── Redirected            3xx: redirects are not followed, since the key would go along
├── NotAnAnswer           200, but no completion: HTML, another JSON, a field of the wrong type
│   └── MalformedAnswer   not even JSON
├── StreamCut             the stream ended before the model said why it stopped
├── AnswerTooLarge        more bytes than we read
├── AnswerTruncated       the model reached its output limit (`finish_reason` "length")
└── ContentFiltered       the endpoint's filter withheld the answer
"""

from agents.llm.values import Usage


class LlmError(Exception):
    """`code` is stable and stands in rows and logs; `transient`: another try may help; `usage`: what it cost anyway."""

    code = "llm_error"
    transient = False

    def __init__(self, message: str, *, retry_after_s: float | None = None, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.usage = usage


class EndpointUnreachable(LlmError):
    code = "endpoint_unreachable"
    transient = True


class EndpointTimeout(LlmError):
    code = "endpoint_timeout"
    transient = True


class CallCancelled(LlmError):
    code = "cancelled"


class EndpointFailed(LlmError):
    code = "endpoint_failed"
    transient = True


class RateLimited(LlmError):
    code = "rate_limited"
    transient = True


class QuotaExhausted(LlmError):
    code = "quota_exhausted"


class CredentialsRefused(LlmError):
    code = "credentials_refused"


class ModelNotFound(LlmError):
    code = "model_not_found"


class RequestRefused(LlmError):
    code = "request_refused"


class ContextTooLong(RequestRefused):
    code = "context_too_long"


class Redirected(LlmError):
    code = "redirected"


class NotAnAnswer(LlmError):
    code = "not_an_answer"
    transient = True


class MalformedAnswer(NotAnAnswer):
    code = "malformed_answer"


class StreamCut(LlmError):
    code = "stream_cut"
    transient = True


class AnswerTooLarge(LlmError):
    code = "answer_too_large"


class AnswerTruncated(LlmError):
    code = "answer_truncated"


class ContentFiltered(LlmError):
    code = "content_filtered"
