"""How much an endpoint may be asked at a time and a minute: counted in the ledger, under the endpoint's lock."""

from datetime import datetime, timedelta

from django.db.models import Case, F, QuerySet, Sum, When

from agents.llm.errors import RateLimited
from agents.llm.routing import Target
from agents.models import LlmCall, ModelEndpoint

WINDOW = timedelta(minutes=1)
LOOK_AGAIN_S = 2.0  # for a place, whose end nobody can tell; each time twice as long
DOUBLED_MOST = 4
HUNG_AFTER = timedelta(minutes=20)  # a call that is open longer than any may last has lost its worker


def take_a_place(target: Target, tokens: int, *, now: datetime, waited: int = 0) -> None:
    """In the transaction that reserves the call: its row follows before the lock goes.

    waited: how often its step has looked before.

    Raises:
        RateLimited: with the seconds to wait.
    """
    if target.endpoint_id is None or not target.limited:
        return
    row = ModelEndpoint.objects.select_for_update(no_key=True).get(pk=target.endpoint_id)
    calls = LlmCall.objects.filter(endpoint_name=row.name, from_cache=False)
    if row.max_running is not None:
        running = calls.filter(state=LlmCall.State.OPEN, at__gt=now - HUNG_AFTER).count()
        if running >= row.max_running:
            again_s = LOOK_AGAIN_S * 2 ** min(waited, DOUBLED_MOST)
            calls_now = f"{running} call{'s' if running != 1 else ''}"
            raise RateLimited(
                f"{row.name} has {calls_now} under way, which is all that it may have.", retry_after_s=again_s
            )
    lately = calls.filter(at__gt=now - WINDOW)
    if row.calls_a_minute is not None and lately.count() >= row.calls_a_minute:
        raise RateLimited(
            f"{row.name} was asked {lately.count()} times in the last minute, of {row.calls_a_minute} that it may be.",
            retry_after_s=_until(lately, now),
        )
    if row.tokens_a_minute is not None:
        counted = Case(
            When(state=LlmCall.State.OPEN, then=F("reserved_tokens")),
            default=F("prompt_tokens") + F("completion_tokens"),
        )
        used = lately.aggregate(tokens=Sum(counted))["tokens"] or 0
        if used and used + tokens > row.tokens_a_minute:
            raise RateLimited(
                f"{row.name} has used {used} of its {row.tokens_a_minute} tokens a minute, and this call may take {tokens}.",
                retry_after_s=_until(lately, now),
            )


def _until(lately: QuerySet[LlmCall], now: datetime) -> float:
    """Seconds until the oldest of the window falls out of it."""
    oldest = lately.order_by("at").values_list("at", flat=True).first() or now
    return max(0.5, (oldest + WINDOW - now).total_seconds())
