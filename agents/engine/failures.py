"""What went wrong, by class, and what follows from it: another try, another way, or the end.

| class | means | without a rule of the step's own |
|---|---|---|
| transient | another try may help | retried |
| rate_limit | asked too often | retried, not before the other side says |
| resource | memory, output or a sandbox is missing | retried where nothing had begun to count |
| lost | the worker died | retried where that is harmless |
| timeout | over its time | given up |
| bad_input | the arguments, the plan or the request are wrong | given up |
| denied | refused by the tool, policy, people or credentials | given up |
| bug | the tool raised what it does not declare | given up |

A step's `retry` says which classes are retried, how often and after how long; its `fallbacks` are tried, in order,
where it would be given up, each for the classes and codes in its `on`, or for all. A ONCE step is tried again only where it is certain that nothing happened.
"""

import random
from datetime import datetime
from typing import Any

from agents.engine.expressions import templated
from agents.engine.transitions import ENGINE, move_step
from agents.models import Step
from agents.states import StepState
from audit.actor import Actor
from audit.kinds import Event
from tools import registry
from tools.errors import InvalidArguments, PermitError, SandboxUnavailable, ToolError, ToolRefused, UnknownTool
from tools.spec import Result

CLASSES = ("transient", "rate_limit", "bad_input", "denied", "timeout", "resource", "bug", "lost")
RETRIED = frozenset({"transient", "rate_limit", "lost", "resource"})
DELAY_S, BACKOFF, MAX_DELAY_S = 1.0, 2.0, 60.0
TOLD_MAX_S = 600.0  # of the delay that the other side asks for

_BY_CODE = {
    "rate_limited": "rate_limit",
    "quota_exhausted": "denied",
    "budget_exhausted": "denied",
    "answer_too_large": "bad_input",
    "answer_truncated": "bad_input",
    "context_too_long": "bad_input",
    "request_refused": "bad_input",
    "model_not_found": "bad_input",
    "redirected": "bad_input",
    "invalid_arguments": "bad_input",
    "unknown_tool": "bad_input",
    "bad_template": "bad_input",
    "bad_condition": "bad_input",
    "bad_map": "bad_input",
    "bad_compensation": "bad_input",
    "credentials_refused": "denied",
    "content_filtered": "denied",
    "tool_refused": "denied",
    "tool_disabled": "denied",
    "policy_denied": "denied",
    "beyond_grant": "denied",
    "denied": "denied",
    "approval_expired": "denied",
    "permit_error": "denied",
    "permit_mismatch": "denied",
    "permit_spent": "denied",
    "mcp_gone": "resource",
    "mcp_no_answer": "bug",
    "mcp_tool_error": "bad_input",
    "timeout": "timeout",
    "deadline": "timeout",
    "memory": "resource",
    "output_limit": "resource",
    "disk_quota": "resource",
    "over_quota": "denied",
    "server_full": "resource",
    "sandbox_unavailable": "resource",
    "internal_error": "bug",
    "lost": "lost",
    "quarantined": "bug",
}


def of_code(code: str) -> str:
    """The class of a stable error code; bad_input for what tools say of their own accord (`not_ok`, `tool_failed`)."""
    return _BY_CODE.get(code, "bad_input")


def of(outcome: Result | ToolError) -> str:
    """The class of what an attempt came to."""
    if isinstance(outcome, Result):
        return of_code(str(outcome.data.get("error_code") or outcome.data.get("ended_by") or "not_ok"))
    if outcome.code in _BY_CODE:
        return _BY_CODE[outcome.code]
    if outcome.transient:
        return "transient"
    if isinstance(outcome, UnknownTool | InvalidArguments):
        return "bad_input"
    if isinstance(outcome, ToolRefused | PermitError):
        return "denied"
    return "resource" if isinstance(outcome, SandboxUnavailable) else "bad_input"


def code_of(result: Result) -> str:
    """The stable code of a result that is not ok."""
    return str(result.data.get("error_code") or "not_ok")


def retried(step: Step, error_class: str, *, declared: bool = True) -> bool:
    """Does a failure of this class run again, while attempts are left?

    declared False: the tool ran to its end and says that it failed, which only a step's own rule retries.
    """
    if step.attempt >= step.max_attempts:
        return False
    if step.retry is None:
        return declared and error_class in RETRIED
    return error_class in (step.retry.get("on") or RETRIED)


def delay_s(step: Step, told: object = None) -> float:
    """Seconds until the next attempt: exponential, jittered, and no sooner than the other side said."""
    rule = step.retry or {}
    first, backoff = float(rule.get("delay_s", DELAY_S)), float(rule.get("backoff", BACKOFF))
    most = float(rule.get("max_delay_s", max(MAX_DELAY_S, first)))
    most = min(most, first * backoff ** min(max(tries(step) - 1, 0), 64))
    asked = min(float(told), TOLD_MAX_S) if isinstance(told, int | float) else 0.0
    return max(most * random.uniform(0.5, 1.0), asked)


def retry_delay_s(count: int) -> float:
    """Seconds before another try of what has no rule of its own: 1, 2, 4 … at most 60, jittered."""
    return min(MAX_DELAY_S, DELAY_S * BACKOFF ** max(count - 1, 0)) * random.uniform(0.5, 1.0)


def budget(step: Step) -> int:
    """Attempts that the step, or its next fallback, may have."""
    return int((step.retry or {}).get("max_attempts") or Step._meta.get_field("max_attempts").default)


def tries(step: Step) -> int:
    """Attempts of the budget that are used. The fence (`Step.attempt`) counts more: those before a retry by a person
    or a fallback, edits, attempts that a worker handed back."""
    return max(0, step.attempt - (step.max_attempts - budget(step)))


def fall_back(step: Step, *, error_class: str, code: str, message: str, now: datetime, actor: Actor = ENGINE) -> bool:
    """Turns the step to its next alternative for such an error, which policies decide on anew; False: there is none.
    Those before it that are for other errors are passed over for good.

    The caller holds the job's lock and calls `advance` afterwards.
    """
    if step.cancel_requested or step.job.cancel_requested:
        return False
    place = next(
        (
            place
            for place in range(step.fallback_used, len(step.fallbacks))
            if not {error_class, code}.isdisjoint(step.fallbacks[place].get("on") or (code,))
        ),
        None,
    )
    if place is None:
        return False
    other = step.fallbacks[place]
    try:
        tool = registry.get(str(other["tool"]))
    except UnknownTool:
        return False
    arguments: dict[str, Any] = other.get("arguments") or {}
    waits = templated(arguments)
    move_step(
        step,
        StepState.PENDING,
        now=now,
        event=Event.STEP_FELL_BACK,
        actor=actor,
        outcome="fallback",
        context={"code": code, "class": error_class, "to": tool.name, "fallback": place + 1},
        payload={"error": message, "arguments": arguments},
        fallback_used=place + 1,
        max_attempts=step.attempt + budget(step),
        tool=tool.name,
        schema_version=tool.schema_version,
        arguments={} if waits else arguments,
        template=arguments if waits else None,
        effect=str(tool.effect_of(arguments)),
        queue=tool.queue,
        decision=None,
        approval_id=None,
        permit_id=None,
        target_state={},
        preview_digest="",
        not_before=None,
        lease_until=None,
        dispatched_at=None,
        error_class=error_class,
        error_code=code,
        error=message[:4000],
    )
    return True


def outlook(step: Step) -> str:
    """What happens next to a step that failed at least once, in words; empty where nothing is to be said."""
    if not step.error_class:
        return ""
    if step.state in {StepState.QUEUED, StepState.READY, StepState.PENDING, StepState.WAITING_APPROVAL}:
        if step.fallback_used and step.state in {StepState.PENDING, StepState.WAITING_APPROVAL, StepState.READY}:
            return f"Goes another way: {step.tool}, alternative {step.fallback_used} of {len(step.fallbacks)}."
        return f"Runs again: attempt {tries(step) + 1} of {budget(step)}."
    if step.state == StepState.IN_DOUBT:
        return "Waits until it is known whether it happened."
    if step.state in {StepState.FAILED, StepState.REFUSED}:
        tried = f" after {tries(step)} attempts" if tries(step) > 1 else ""
        ways = f" and {step.fallback_used} alternatives" if step.fallback_used else ""
        return f"Given up{tried}{ways}."
    return ""
