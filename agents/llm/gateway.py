"""One question to a model: the best endpoint first, the next where it fails; each attempt is a row of the ledger that
was reserved before and is settled after."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.utils import timezone

from agents.connections import rest
from agents.engine.limits import charge
from agents.llm import budget, cache, functions, health, pace, routing, structured
from agents.llm.errors import CredentialsRefused, LlmError, RateLimited
from agents.llm.routing import NoEndpoint, Target
from agents.llm.values import Answer, Endpoint, Request, Usage, estimate_tokens
from agents.models import Job, LlmCall, Step
from audit.canonical import canonical_json
from tools import redact
from tools.errors import ToolFailed, ToolRefused
from tools.spec import Box, Tool

ASKS_AS = "llm.think"
OUTPUT_TOKENS = 8192
OUTPUT_TOKENS_LEAST = 256  # with less left than this there is no use in asking
# Where another endpoint would do no better, or nobody wants the answer any more.
FINAL = frozenset({"cancelled", "answer_truncated", "content_filtered"})


class ThinkFailed(ToolFailed):
    """A turn that came to nothing. `code` says why: a code of `agents.llm.errors`, or `stuck`, `budget_exhausted`,
    `invalid_answer`, `no_endpoint`."""

    def __init__(self, code: str, message: str, *, transient: bool = False, **details: object) -> None:
        super().__init__(message, transient=transient, code=code, **details)
        self.code = code

    @property
    def retry_after_s(self) -> float:
        """How long the endpoint asks to be left alone; 0 where it does not say."""
        told = self.details.get("retry_after_s")
        return float(told) if isinstance(told, int | float) else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What stays the same through the tries of one step.

    functions: what is offered instead of `tools` and `finish`; schema: of the data that is asked for instead of either;
    purpose: the tool that asks, for the ledger; cacheable: one answer is as good as another to the very same request.
    """

    job: Job
    step: Step
    turn: int
    targets: Sequence[Target]
    tools: list[Tool]
    box: Box
    purpose: str = "llm.think"
    functions: list[dict[str, Any]] | None = None
    output_tokens: int = OUTPUT_TOKENS
    schema: Mapping[str, Any] | None = None
    cacheable: bool = False


def targets_for(job: Job, *, needs: set[str], route: str = "") -> list[Target]:
    """The endpoints that this job's calls may go to. Raises ThinkFailed (`no_endpoint`)."""
    try:
        return routing.targets(job.agent, needs=needs, now=timezone.now(), route=route)
    except NoEndpoint as error:
        raise ThinkFailed("no_endpoint", str(error)) from None


def ask(asking: Asking, messages: list[dict[str, Any]]) -> Answer:
    """Asks each endpoint of the route until one answers.

    Raises:
        ThinkFailed: that of the endpoint that another try may find well the soonest, else the last one's.
    """
    budget.give_up_earlier(asking.step)
    failed: list[ThinkFailed] = []
    for target in asking.targets:
        if failed:
            asking.box.log(f"{failed[-1].message}\nAsking {target.name} instead.\n")
        try:
            return _attempt(asking, target, messages)
        except ThinkFailed as error:
            if error.code in FINAL:
                raise
            failed.append(error)
    raise most_hopeful(failed)


def most_hopeful(failed: Sequence[ThinkFailed]) -> ThinkFailed:
    """What a step says whose endpoints have all failed: one with a wrong key does not end it while another will do better
    in a minute."""
    hopeful = [one for one in failed if one.transient]
    if hopeful:
        return min(hopeful, key=lambda one: one.retry_after_s)
    return failed[-1] if failed else ThinkFailed("no_endpoint", "There is no model endpoint to ask.")


def _attempt(asking: Asking, target: Target, messages: list[dict[str, Any]]) -> Answer:
    """One endpoint; where data is asked for, in the best way that it takes."""
    if asking.schema is None:
        offered = functions.as_functions(asking.tools) if asking.functions is None else asking.functions
        return _request(asking, target, Request(model=target.model, messages=messages, tools=offered, output_tokens=0))
    modes = structured.modes(target.capabilities)
    for mode in modes:
        tools, form = structured.offer(asking.schema, mode)
        question = structured.asked(messages, asking.schema, mode)
        request = Request(model=target.model, messages=question, tools=tools, output_tokens=0, response_format=form)
        try:
            return structured.read(_request(asking, target, request), mode)
        except ThinkFailed as error:
            if error.code != "request_refused" or mode is modes[-1]:
                raise
            asking.box.log(f"{target.name} does not take the mode {mode}.\n")
    raise AssertionError("there is always a last mode")


def _request(asking: Asking, target: Target, request: Request) -> Answer:
    # Imported here: the package behind it costs 40 MB, and every process imports this module to know the tool.
    from agents.llm import client

    started = time.monotonic()
    call = new_call(asking.job, asking.step, target, asking.purpose)
    key = cache.key_of(target, request) if asking.cacheable and target.cache_s else ""
    kept = cache.find(target, key, now=call.at) if key else None
    if kept is not None:
        _note_kept(call, kept)
        asking.box.log(kept.content, "token")
        return kept
    request = _reserved(asking, target, request, call)
    first: list[float] = []

    def on_text(text: str) -> None:
        if not first:
            first.append(time.monotonic())
        asking.box.log(text, "token")

    try:
        endpoint = endpoint_of(target, asking.purpose)
        rest()  # the database connection, while the model thinks
        answer = client.complete(
            endpoint, request, deadline_s=target.timeout_s, on_text=on_text, cancelled=asking.box.cancelled
        )
    except LlmError as error:
        told = redact.text(error.message)[:4000]
        settle_call(call, target, error.usage, started, error_code=error.code, error=told)
        health.failed(target, error, now=timezone.now())
        details = {"retry_after_s": error.retry_after_s} if error.retry_after_s is not None else {}
        raise ThinkFailed(error.code, target.said(told), transient=error.transient, **details) from None
    except BaseException as error:
        settle_call(call, target, None, started, error_code="broken", error=redact.text(repr(error))[:4000])
        raise
    health.succeeded(target)
    if key:
        cache.keep(target, key, answer, now=timezone.now())
    settle_call(
        call,
        target,
        answer.usage,
        started,
        first_token_ms=int((first[0] - started) * 1000) if first else None,
        model=answer.model[:120],
        scripted=is_scripted(answer) or target.scripted,
        finish_reason=answer.finish_reason[:40],
        answer=_kept(answer),
    )
    return answer


def new_call(job: Job, step: Step, target: Target, purpose: str) -> LlmCall:
    """The row of a call that begins now; not yet written."""
    return LlmCall(
        step=step,
        job=job,
        attempt=step.attempt,
        purpose=purpose[:40],
        endpoint=target.base_url[:300],
        endpoint_name=target.name[:80],
        route=target.route[:80],
        model=target.model[:120],
        scripted=target.scripted,
        at=timezone.now(),
    )


def _note_kept(call: LlmCall, kept: Answer) -> None:
    """A call that was none: its row says that the answer was at hand."""
    call.from_cache = True
    call.model, call.finish_reason, call.answer = kept.model[:120], kept.finish_reason[:40], _kept(kept)
    call.save(force_insert=True)


def _reserved(asking: Asking, target: Target, request: Request, call: LlmCall) -> Request:
    """The request, with an output limit that endpoint and budget cover; its row stands.

    Raises:
        ThinkFailed: `budget_exhausted`, `context_too_long`, or `rate_limited` where the endpoint's own bounds are reached.
    """
    body = canonical_json(request.body())
    prompt = estimate_tokens(len(body))
    output = min(asking.output_tokens, target.output_tokens)
    if target.context_tokens:
        output = min(output, target.context_tokens - prompt)
        if output < min(OUTPUT_TOKENS_LEAST, asking.output_tokens):
            raise ThinkFailed(
                "context_too_long",
                f"About {prompt} tokens of prompt do not fit the {target.context_tokens} of {target.name}.",
            )
    least = min(OUTPUT_TOKENS_LEAST, output)
    price = lambda tokens: target.price(Usage(prompt_tokens=prompt, completion_tokens=tokens))  # noqa: E731
    call.request_sha256 = hashlib.sha256(body).hexdigest()
    try:
        budget.reserve(
            call,
            tokens=prompt + output,
            cost=price(output),
            least_tokens=prompt + least,
            least_cost=price(least),
            also=lambda: pace.take_a_place(target, prompt + output, now=call.at, waited=asking.step.attempt - 1),
        )
    except RateLimited as error:
        raise no_room(error) from None
    except budget.BudgetExhausted as error:
        raise ThinkFailed("budget_exhausted", f"Stopped: {error}.") from None
    output = min(output, call.reserved_tokens - prompt)
    while output > least and price(output) > call.reserved_cost:  # the money covers less than the tokens
        output = max(least, output // 2)
    return replace(request, output_tokens=output)


def no_room(error: RateLimited) -> ThinkFailed:
    """Our own bound is reached: the step waits until there is room, which is none of its attempts."""
    return ThinkFailed(error.code, error.message, transient=True, retry_after_s=error.retry_after_s, handed_back=True)


def endpoint_of(target: Target, purpose: str) -> Endpoint:
    """Address and key; who plans, remembers or titles uses the key as agents do, so that a handle for `llm.*` serves all.

    Raises CredentialsRefused: the key cannot be had.
    """
    try:
        return target.endpoint(tool=purpose if purpose.startswith("llm.") else ASKS_AS)
    except (ToolRefused, ToolFailed) as error:
        raise CredentialsRefused(f"The key of {target.name} cannot be used: {error.message}") from None


def settle_call(call: LlmCall, target: Target, usage: Usage | None, started: float, **fields: Any) -> None:
    """The call has ended: its row, the job's cost and the limits of the endpoint know what it used.

    started: by the monotonic clock; fields: what else the row is to hold.
    """
    for name, value in fields.items():
        setattr(call, name, value)
    if usage is not None:
        call.prompt_tokens, call.completion_tokens = usage.prompt_tokens, usage.completion_tokens
        call.cached_tokens, call.cost = usage.cached_tokens, target.price(usage)
    call.latency_ms = int((time.monotonic() - started) * 1000)
    budget.settle(call)
    charge(call, now=timezone.now())


def _kept(answer: Answer) -> dict[str, Any]:
    """The answer as the ledger keeps it: before it is judged, without secrets."""
    calls = [{"id": one.id, "name": one.name, "arguments": one.arguments} for one in answer.calls]
    return {"content": redact.text(answer.content), "tool_calls": redact.data(calls)}


def is_scripted(answer: Answer) -> bool:
    """The stand-in says what it is by its model's name, whatever the settings say."""
    return bool(settings.LLM_SCRIPTED) or answer.model.startswith("scripted-")
