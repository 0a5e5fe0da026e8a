"""Texts into vectors, as part of a step: in batches, on the ledger, within the job's budget."""

import time
from collections.abc import Callable, Sequence

from django.utils import timezone

from agents.connections import rest
from agents.llm import budget, health, pace
from agents.llm.errors import LlmError, RateLimited
from agents.llm.gateway import FINAL, ThinkFailed, endpoint_of, most_hopeful, new_call, no_room, settle_call
from agents.llm.routing import Target
from agents.llm.values import Usage, estimate_tokens
from agents.llm.vectors import Vectors
from agents.models import Job, LlmCall, Step
from tools import redact

BATCH = 64
BATCH_BYTES = 256 * 1024

Cancelled = Callable[[], bool]
NEVER: Cancelled = lambda: False  # noqa: E731


def embed(
    job: Job, step: Step, targets: Sequence[Target], texts: Sequence[str], *, purpose: str, cancelled: Cancelled = NEVER
) -> Vectors:
    """A vector a text, in their order, all from one endpoint: vectors of two models cannot be compared.

    cancelled: is asked twice a second whether anybody still wants them.

    Raises:
        ThinkFailed: as `agents.llm.gateway.ask`.
    """
    failed: list[ThinkFailed] = []
    for target in targets:
        try:
            return _all(job, step, target, texts, purpose, cancelled)
        except ThinkFailed as error:
            if error.code in FINAL:
                raise
            failed.append(error)
    raise most_hopeful(failed)


def batches(texts: Sequence[str]) -> list[list[str]]:
    """In order; none larger than an endpoint takes at once."""
    made: list[list[str]] = []
    size = 0
    for text in texts:
        own = len(text.encode("utf-8", "replace"))
        if not made or len(made[-1]) >= BATCH or size + own > BATCH_BYTES:
            made.append([])
            size = 0
        made[-1].append(text)
        size += own
    return made


def _all(job: Job, step: Step, target: Target, texts: Sequence[str], purpose: str, cancelled: Cancelled) -> Vectors:
    parts = [_batch(job, step, target, batch, purpose, cancelled) for batch in batches(texts)]
    if len({part.dimensions for part in parts}) != 1:
        raise ThinkFailed("not_an_answer", f"{target.name} gave vectors of different lengths.")
    usage = Usage(prompt_tokens=sum(part.usage.prompt_tokens for part in parts), completion_tokens=0)
    return Vectors(values=[one for part in parts for one in part.values], model=parts[0].model, usage=usage)


def _batch(job: Job, step: Step, target: Target, texts: list[str], purpose: str, cancelled: Cancelled) -> Vectors:
    # Imported here: see `agents.llm.gateway`.
    from agents.llm import client

    started = time.monotonic()
    call = new_call(job, step, target, purpose)
    _reserve(call, target, texts)
    try:
        endpoint = endpoint_of(target, purpose)
        rest()
        vectors = client.embed(
            endpoint,
            model=target.model,
            texts=texts,
            dimensions=target.dimensions,
            deadline_s=target.timeout_s,
            cancelled=cancelled,
        )
    except LlmError as error:
        told = redact.text(error.message)[:4000]
        settle_call(call, target, error.usage, started, error_code=error.code, error=told)
        health.failed(target, error, now=timezone.now())
        raise ThinkFailed(error.code, target.said(told), transient=error.transient) from None
    except BaseException as error:
        settle_call(call, target, None, started, error_code="broken", error=redact.text(repr(error))[:4000])
        raise
    health.succeeded(target)
    settle_call(call, target, vectors.usage, started, model=vectors.model[:120], finish_reason="stop")
    return vectors


def _reserve(call: LlmCall, target: Target, texts: list[str]) -> None:
    tokens = estimate_tokens(sum(len(text.encode("utf-8", "replace")) for text in texts))
    cost = target.price(Usage(prompt_tokens=tokens, completion_tokens=0))
    try:
        budget.reserve(
            call,
            tokens=tokens,
            cost=cost,
            least_tokens=tokens,
            least_cost=cost,
            also=lambda: pace.take_a_place(target, tokens, now=call.at),
        )
    except RateLimited as error:
        raise no_room(error) from None
    except budget.BudgetExhausted as error:
        raise ThinkFailed("budget_exhausted", f"Stopped: {error}.") from None
