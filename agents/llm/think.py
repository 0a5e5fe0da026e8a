"""The model's turn, as a tool of the engine: reads the job's rows, asks the endpoint, gives back what it wants next."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django.conf import settings
from django.db.models import Sum
from django.utils import timezone

from agents.connections import rest
from agents.engine.limits import charge
from agents.llm import conversation, functions
from agents.llm.errors import LlmError
from agents.llm.judge import Verdict, judge, repair_messages
from agents.llm.stuck import stuck
from agents.llm.values import Answer, Endpoint, Request, Usage, estimate_tokens
from agents.models import Job, LlmCall, Step
from audit.canonical import canonical_json
from tools import redact
from tools.errors import ToolFailed
from tools.spec import Box, Effect, Limits, Result, Risk, RiskScore, Tool

REPAIRS = 2
OUTPUT_TOKENS = 8192
OUTPUT_TOKENS_LEAST = 256  # with less left than this there is no use in asking


class ThinkFailed(ToolFailed):
    """A turn that came to nothing. `code` says why: a code of `agents.llm.errors`, or one of those below."""

    def __init__(self, code: str, message: str, *, transient: bool = False, **details: object) -> None:
        super().__init__(message, transient=transient, code=code, **details)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What stays the same through the tries of one step. functions: what is offered instead of `tools` and `finish`."""

    job: Job
    step: Step
    turn: int
    endpoint: Endpoint
    model: str
    tools: list[Tool]
    box: Box
    functions: list[dict[str, Any]] | None = None


class Think(Tool):
    """One model call, with its repairs.

    Fails with the codes of `agents.llm.errors` and: `stuck` (the agent goes round in circles), `budget_exhausted` (the
    job's tokens would not cover the call), `invalid_answer` (still unusable after the repairs).
    """

    name: ClassVar[str] = "llm.think"
    summary: ClassVar[str] = "Asks the model what to do next."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"turn": {"type": "integer", "minimum": 1}},
        "required": ["turn"],
        "additionalProperties": False,
    }
    effect: ClassVar[Effect] = Effect.REPEATABLE
    queue: ClassVar[str] = "llm"
    limits: ClassVar[Limits] = Limits(timeout_s=900.0)
    offered: ClassVar[bool] = False

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("asks the model; changes nothing by itself",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"ask the model, turn {arguments['turn']}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        """Raises ThinkFailed."""
        job = Job.objects.select_related("agent", "repository", "owner").get(steps__pk=box.call_id)
        talk = conversation.build(job)
        why = stuck(talk.history)
        if why:
            raise ThinkFailed("stuck", f"The agent is stuck: {why}.")
        asking = Asking(
            job=job,
            step=Step.objects.get(pk=box.call_id),
            turn=int(arguments["turn"]),
            endpoint=Endpoint(base_url=settings.LLM_BASE_URL, api_key=settings.LLM_API_KEY),
            model=(job.agent.model if job.agent else "") or settings.LLM_MODEL,
            tools=talk.tools,
            box=box,
        )
        return _converse(asking, talk.messages)


def _converse(asking: Asking, messages: list[dict[str, Any]]) -> Result:
    """Asks until the answer can be used, at most 1 + REPAIRS times."""
    spent = Usage(prompt_tokens=0, completion_tokens=0)
    verdict = Verdict(content="")
    for round in range(REPAIRS + 1):
        answer = ask(asking, messages)
        spent = Usage(
            prompt_tokens=spent.prompt_tokens + answer.usage.prompt_tokens,
            completion_tokens=spent.completion_tokens + answer.usage.completion_tokens,
        )
        verdict = judge(answer, asking.tools, turn=asking.turn, round=round)
        if not verdict.problems:
            return _result(answer, verdict, spent)
        asking.box.log(f"The answer cannot be used: {_words(verdict)}\n")
        messages = [*messages, *repair_messages(answer, verdict, turn=asking.turn, round=round)]
    raise ThinkFailed(
        "invalid_answer", f"The model's answer cannot be used, after {REPAIRS} repairs: {_words(verdict)}"
    )


def ask(asking: Asking, messages: list[dict[str, Any]]) -> Answer:
    """One request, within the budget, with its row in the ledger whatever comes of it."""
    # Imported here: the package behind it costs 40 MB, and every process imports this module to know the tool.
    from agents.llm import client

    request = _within_budget(asking, messages)
    started = time.monotonic()
    call = LlmCall(
        step=asking.step,
        attempt=asking.step.attempt,
        endpoint=asking.endpoint.base_url[:300],
        model=asking.model[:120],
        scripted=settings.LLM_SCRIPTED,
        request_sha256=hashlib.sha256(canonical_json(request.body())).hexdigest(),
        at=timezone.now(),
    )
    rest()  # the database connection, while the model thinks
    try:
        answer = client.complete(
            asking.endpoint,
            request,
            deadline_s=float(settings.LLM_TIMEOUT_S),
            on_text=lambda text: asking.box.log(text, "token"),
            cancelled=asking.box.cancelled,
        )
    except LlmError as error:
        told = redact.text(error.message)[:4000]
        _write(call, error.usage, started, error_code=error.code, error=told)
        raise ThinkFailed(
            error.code,
            told,
            transient=error.transient,
            **({"retry_after_s": error.retry_after_s} if error.retry_after_s is not None else {}),
        ) from None
    _write(
        call,
        answer.usage,
        started,
        model=answer.model[:120],
        scripted=is_scripted(answer),
        finish_reason=answer.finish_reason[:40],
        answer=_kept(answer),
    )
    return answer


def _within_budget(asking: Asking, messages: list[dict[str, Any]]) -> Request:
    """The request, with an output limit that the job's budget covers.

    Reserves before: the estimated prompt and the whole output. Counts every call in the ledger, so that failed
    attempts and repairs have their price too.

    Raises:
        ThinkFailed: `budget_exhausted`.
    """
    job = asking.job
    sums = LlmCall.objects.filter(step__job=job).aggregate(
        prompt=Sum("prompt_tokens"), completion=Sum("completion_tokens")
    )
    used = max((sums["prompt"] or 0) + (sums["completion"] or 0), job.tokens_used)
    tools = functions.as_functions(asking.tools) if asking.functions is None else asking.functions
    request = Request(model=asking.model, messages=messages, tools=tools, output_tokens=OUTPUT_TOKENS)
    prompt = estimate_tokens(len(canonical_json(request.body())))
    left = job.max_tokens - used - prompt
    if left < OUTPUT_TOKENS_LEAST:
        raise ThinkFailed(
            "budget_exhausted",
            f"Stopped: {used} of the job's {job.max_tokens} tokens are used, and the next call needs about {prompt} more.",
        )
    return Request(model=asking.model, messages=messages, tools=tools, output_tokens=min(OUTPUT_TOKENS, left))


def _write(call: LlmCall, usage: Usage | None, started: float, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(call, name, value)
    if usage is not None:
        call.prompt_tokens, call.completion_tokens = usage.prompt_tokens, usage.completion_tokens
    call.latency_ms = int((time.monotonic() - started) * 1000)
    call.save(force_insert=True)
    charge(call, now=timezone.now())


def _kept(answer: Answer) -> dict[str, Any]:
    """The answer as the ledger keeps it: before it is judged, without secrets."""
    calls = [{"id": one.id, "name": one.name, "arguments": one.arguments} for one in answer.calls]
    return {"content": redact.text(answer.content), "tool_calls": redact.data(calls)}


def _result(answer: Answer, verdict: Verdict, spent: Usage) -> Result:
    if verdict.finish is not None:
        summary = "Finishes: " + verdict.finish["summary"]
    else:
        summary = "Asks for " + ", ".join(wish.name for wish in verdict.wishes)
    return Result(
        ok=True,
        summary=summary[:300],
        text=verdict.content,
        data={
            "content": verdict.content,
            "tool_calls": [wish.as_json() for wish in verdict.wishes],
            "finish": verdict.finish,
            "usage": {"prompt_tokens": spent.prompt_tokens, "completion_tokens": spent.completion_tokens},
            "model": answer.model,
            "scripted": is_scripted(answer),
        },
    )


def is_scripted(answer: Answer) -> bool:
    """The stand-in says what it is by its model's name, whatever the settings say."""
    return bool(settings.LLM_SCRIPTED) or answer.model.startswith("scripted-")


def _words(verdict: Verdict) -> str:
    return " ".join(why for _, why in verdict.problems)[:1000]
