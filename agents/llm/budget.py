"""What a job may still spend on models: reserved before a call, settled after it.

A reservation is the call's own row (`LlmCall`, state open). Children of a job have their share set aside when they
start, so that a job bounds its whole tree.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from django.db import connection, transaction
from django.db.models import F

from agents.models import Job, LlmCall, Step
from agents.states import JOB_DONE

ZERO = Decimal(0)
_OPEN = LlmCall.State.OPEN
_ESTIMATED = [str(LlmCall.State.OPEN), str(LlmCall.State.LOST)]
_DONE = sorted(map(str, JOB_DONE))
# What the job's own calls used or have set aside; what ended children used; what the others may still use.
_SPENT = """
    SELECT coalesce(own.tokens, 0)::bigint, coalesce(own.cost, 0),
           coalesce(below.used_tokens, 0)::bigint, coalesce(below.used_cost, 0),
           coalesce(below.held_tokens, 0)::bigint, coalesce(below.held_cost, 0)
      FROM (SELECT sum(CASE WHEN state = ANY(%(estimated)s) THEN reserved_tokens
                            ELSE prompt_tokens + completion_tokens END) AS tokens,
                   sum(CASE WHEN state = ANY(%(estimated)s) THEN reserved_cost ELSE cost END) AS cost
              FROM agents_llmcall WHERE job_id = %(job)s) AS own,
           (SELECT sum(tokens_used) FILTER (WHERE state = ANY(%(done)s)) AS used_tokens,
                   sum(cost_used) FILTER (WHERE state = ANY(%(done)s)) AS used_cost,
                   sum(max_tokens) FILTER (WHERE state <> ALL(%(done)s)) AS held_tokens,
                   sum(max_cost) FILTER (WHERE state <> ALL(%(done)s)) AS held_cost
              FROM agents_job WHERE parent_id = %(job)s) AS below
"""


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
    with connection.cursor() as cursor:
        cursor.execute(_SPENT, {"job": job.pk, "estimated": _ESTIMATED, "done": _DONE})
        own_tokens, own_cost, used_tokens, used_cost, held_tokens, held_cost = cursor.fetchone()
    tokens, cost = max(own_tokens + used_tokens, job.tokens_used), max(own_cost + used_cost, job.cost_used)
    return Left(
        tokens=job.max_tokens - tokens - held_tokens,
        cost=None if job.max_cost is None else job.max_cost - cost - held_cost,
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
    if step.attempt <= 1:
        return 0
    return LlmCall.objects.filter(step=step, state=_OPEN, attempt__lt=step.attempt).update(
        state=LlmCall.State.LOST, error_code="lost", error="Its worker was gone before the answer came."
    )
