"""Endpoints that fail are left alone for a while: a circuit breaker in the endpoint's row, seen by every worker."""

from datetime import datetime, timedelta

from django.db.models import F

from agents.llm.errors import LlmError
from agents.llm.routing import Target
from agents.models import ModelEndpoint

OPENS_AFTER = 3  # failures one after the other
FIRST_S = 15.0
LONGEST_S = 600.0
# What says nothing about the endpoint: the request's or the job's own fault.
_OURS = frozenset({"cancelled", "request_refused", "context_too_long", "answer_truncated", "content_filtered"})


def succeeded(target: Target) -> None:
    """An answer came: it is closed again."""
    if target.endpoint_id is not None:
        ModelEndpoint.objects.filter(pk=target.endpoint_id).exclude(failures=0, open_until=None).update(
            failures=0, open_until=None
        )


def failed(target: Target, error: LlmError, *, now: datetime) -> None:
    """Counts a failure; after several the endpoint is passed over, each time twice as long. One that says itself when to
    come back is passed over until then.

    Once that time is over calls go there again, and the first answer or failure decides.
    """
    if target.endpoint_id is None or error.code in _OURS:
        return
    ModelEndpoint.objects.filter(pk=target.endpoint_id).update(failures=F("failures") + 1)
    failures = ModelEndpoint.objects.values_list("failures", flat=True).get(pk=target.endpoint_id)
    pause_s = error.retry_after_s or 0.0
    if failures >= OPENS_AFTER:
        pause_s = max(min(FIRST_S * 2 ** min(failures - OPENS_AFTER, 10), LONGEST_S), pause_s)
    if pause_s:
        ModelEndpoint.objects.filter(pk=target.endpoint_id).update(open_until=now + timedelta(seconds=pause_s))
