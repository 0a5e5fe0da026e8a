"""What a job may still spend on models: reserved before a call, settled after it.

A reservation is the call's own row (`LlmCall`, state open). Children of a job have their share set aside when they
start, so that a job bounds its whole tree.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from django.db import transaction
from django.db.models import Case, F, Q, Sum, When

from agents.models import Job, LlmCall, Step
from agents.states import JOB_DONE

ZERO = Decimal(0)
_OPEN = LlmCall.State.OPEN
_ESTIMATED = (LlmCall.State.OPEN, LlmCall.State.LOST)


class BudgetExhausted(Exception):
    """What is left does not cover the call; the message says of what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """tokens, and US dollars (None: no bound), that the job may still reserve."""

    tokens: int
    cost: Decimal | None
    used_tokens: int
    used_cost: Decimal


def left(job: Job) -> Left:
    """As things stand: exact inside a transaction that holds the job's row."""
    counted = Case(
        When(state__in=_ESTIMATED, then=F("reserved_tokens")), default=F("prompt_tokens") + F("completion_tokens")
    )
    priced = Case(When(state__in=_ESTIMATED, then=F("reserved_cost")), default=F("cost"))
    sums = LlmCall.objects.filter(job=job).aggregate(tokens=Sum(counted), cost=Sum(priced))
    ended = Q(state__in=JOB_DONE)
    below = job.children.aggregate(
        used_tokens=Sum("tokens_used", filter=ended),
        used_cost=Sum("cost_used", filter=ended),
        held_tokens=Sum("max_tokens", filter=~ended),
        held_cost=Sum("max_cost", filter=~ended),
    )
    tokens = max((sums["tokens"] or 0) + (below["used_tokens"] or 0), job.tokens_used)
    cost = max((sums["cost"] or ZERO) + (below["used_cost"] or ZERO), job.cost_used)
    return Left(
        tokens=job.max_tokens - tokens - (below["held_tokens"] or 0),
        cost=None if job.max_cost is None else job.max_cost - cost - (below["held_cost"] or ZERO),
        used_tokens=tokens,
        used_cost=cost,
    )


@transaction.atomic
def reserve(
    call: LlmCall,
    *,
    tokens: int,
    cost: Decimal,
    least_tokens: int,
    least_cost: Decimal,
    also: Callable[[], None] = lambda: None,
) -> Left:
    """Writes the call's row with what it may use at most, or with what is left where that is still enough.

    tokens, cost: wanted; least_tokens, least_cost: with less there is no use in asking; also: what else must hold, in
    the same transaction.

    Raises:
        BudgetExhausted: nothing was written.
    """
    assert call.job_id is not None
    job = Job.objects.select_for_update(no_key=True).get(pk=call.job_id)
    now_left = left(job)
    if now_left.tokens < least_tokens:
        raise BudgetExhausted(
            f"{now_left.used_tokens} of the job's {job.max_tokens} tokens are used or set aside, and the next call needs "
            f"about {least_tokens}"
        )
    if now_left.cost is not None and now_left.cost < least_cost:
        raise BudgetExhausted(
            f"${now_left.used_cost:.4f} of the job's ${job.max_cost:.4f} are spent or set aside, and the next call needs "
            f"about ${least_cost:.4f}"
        )
    also()
    call.state = _OPEN
    call.reserved_tokens = min(tokens, now_left.tokens)
    call.reserved_cost = cost if now_left.cost is None else min(cost, now_left.cost)
    call.save(force_insert=True)
    return now_left


@transaction.atomic
def settle(call: LlmCall) -> None:
    """The call has ended: its row holds what it used, and the job's cost grows by it."""
    call.state = LlmCall.State.ENDED
    call.save(force_update=True)
    if call.cost and call.job_id is not None:
        Job.objects.filter(pk=call.job_id).update(cost_used=F("cost_used") + call.cost)


def give_up_earlier(step: Step) -> int:
    """Calls that an earlier attempt of this step left open are lost, and keep their reservation. How many."""
    return LlmCall.objects.filter(step=step, state=_OPEN, attempt__lt=step.attempt).update(
        state=LlmCall.State.LOST, error_code="lost", error="Its worker was gone before the answer came."
    )
