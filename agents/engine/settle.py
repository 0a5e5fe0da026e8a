"""The end of an attempt: result, audit, what comes next and its dispatch, in one transaction."""

import random
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import InterfaceError, OperationalError, transaction

from agents.engine import doubt, quarantine, think
from agents.engine.advance import THINK, advance
from agents.engine.gate import again
from agents.engine.limits import freed
from agents.engine.transitions import ENGINE, lock_job, move_step, step_facts, step_target
from agents.models import Attempt, Job, Step
from agents.states import StepState
from approvals import requests
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event
from tools import permits
from tools.errors import PermitMismatch, ToolError, ToolRefused
from tools.spec import Effect, Result

RETRY_ERRORS = (OperationalError, InterfaceError)
RETRY_FIRST_S, RETRY_MOST_S = 1.0, 60.0


class Crashed(ToolError):
    """A tool raised what it does not declare: a bug."""

    code = "internal_error"


class Lost(ToolError):
    """The worker died or lost its lease in mid-act: what the attempt did is unknown."""

    code = "lost"


@transaction.atomic
def settle(step: Step, outcome: Result | ToolError, *, worker: str, cancelled: bool, now: datetime) -> bool:
    """Writes how the attempt ended, fenced by (id, running, attempt).

    False: the lease was lost meanwhile; the result is recorded as late and changes nothing.
    """
    job = lock_job(step.job_id)
    held = Step.objects.filter(pk=step.pk, state=StepState.RUNNING, attempt=step.attempt).first()
    actor = Actor.worker(worker)
    if held is None:
        if not _settled_before(step, outcome):
            _late(step, outcome, actor=actor, now=now)
        return False
    transaction.on_commit(partial(freed, held, now=now))
    step = held
    cancelled = cancelled or step.cancel_requested or job.cancel_requested  # the worker may not have heard of it yet
    if isinstance(outcome, Lost):
        lost(job, step, outcome, actor=actor, now=now)
    elif isinstance(outcome, Result):
        _ended(job, step, outcome, actor=actor, cancelled=cancelled, now=now)
    else:
        _broke(job, step, outcome, actor=actor, cancelled=cancelled, now=now)
    advance(job, now=now)
    return True


def result_json(result: Result) -> dict[str, Any]:
    """A result as the step's row holds it."""
    return {
        "ok": result.ok,
        "summary": result.summary,
        "data": dict(result.data),
        "text": result.text,
        "exit_code": result.exit_code,
        "truncated_bytes": result.truncated_bytes,
        "sandbox": dict(result.sandbox),
    }


def end_attempt(step: Step, outcome: str, *, now: datetime, error: ToolError | None = None) -> None:
    """Closes the attempt's row."""
    Attempt.objects.filter(step=step, number=step.attempt, ended_at__isnull=True).update(
        ended_at=now,
        outcome=outcome,
        error_code=error.code if error else "",
        error=error.message[:4000] if error else "",
    )


def succeed(job: Job, step: Step, result: Result, *, actor: Actor, now: datetime) -> None:
    """The step did what it says. A model's answer becomes the next steps."""
    usage = result.data.get("usage", {}) if step.tool == THINK else {}
    tokens = int(usage.get("prompt_tokens", 0)) + int(usage.get("completion_tokens", 0))
    facts = {"exit_code": result.exit_code, "tier": result.sandbox.get("tier", ""), "tokens": tokens}
    move_step(
        step,
        StepState.SUCCEEDED,
        now=now,
        event=Event.STEP_CONFIRMED,
        actor=actor,
        context=facts,
        payload={"summary": result.summary, "text": result.text},
        result=result_json(result),
        tokens=tokens,
        error_code="",
        error="",
    )
    end_attempt(step, "succeeded", now=now)
    if tokens:
        Job.objects.filter(pk=job.pk).update(tokens_used=job.tokens_used + tokens)
        job.tokens_used += tokens
    if step.tool == THINK and not job.cancel_requested:
        think.append_steps(job, step, result, now=now)


def lost(job: Job, step: Step, error: ToolError, *, actor: Actor, now: datetime) -> None:
    """An attempt of a running step came to an unknown end. It runs again where that is harmless: its permit was not
    spent (and is withdrawn, so that no worker that wakes up late can spend it), or its effect is repeatable. Else it
    is in doubt."""
    began = not (step.permit_id and permits.withdraw(step.permit_id))
    doubtful = began and step.effect == Effect.ONCE
    end_attempt(step, "lost", now=now, error=error)
    if actor == ENGINE:  # a worker that tells of it lives
        quarantine.count_loss(step)
    if step.cancel_requested or job.cancel_requested:
        cancel_step(step, actor=actor, now=now, doubtful=doubtful)
    elif doubtful:
        doubt.enter(step, now=now, why=error.message, actor=actor)
    elif quarantine.due(step):
        quarantine.set_aside(step, actor=actor, now=now)
    elif step.attempt >= step.max_attempts:
        fail(step, code=error.code, message=error.message, actor=actor, now=now)
    else:
        record(Event.STEP_REQUEUED, actor=actor, target=step_target(step), outcome="lost", context=step_facts(step))
        again(job, step, now=now)


def fail(step: Step, *, code: str, message: str, actor: Actor, now: datetime, **changes: Any) -> None:
    """The step ended without its effect."""
    move_step(
        step,
        StepState.FAILED,
        now=now,
        event=Event.STEP_FAILED,
        actor=actor,
        outcome="failed",
        context={"code": code},
        payload={"error": message},
        error_code=code,
        error=message[:4000],
        **changes,
    )


def retry_delay_s(attempt: int) -> float:
    """Exponential, with full jitter on the upper half: 1, 2, 4 … at most 60 seconds."""
    most = min(RETRY_MOST_S, RETRY_FIRST_S * 2 ** max(attempt - 1, 0))
    return most * random.uniform(0.5, 1.0)


def _ended(job: Job, step: Step, result: Result, *, actor: Actor, cancelled: bool, now: datetime) -> None:
    if result.ok:
        succeed(job, step, result, actor=actor, now=now)
    elif cancelled:
        cancel_step(step, actor=actor, now=now, result=result_json(result))
    else:
        fail(
            step,
            code=str(result.data.get("error_code") or "not_ok"),
            message=result.summary,
            actor=actor,
            now=now,
            result=result_json(result),
        )
        end_attempt(step, "failed", now=now)


def _broke(job: Job, step: Step, error: ToolError, *, actor: Actor, cancelled: bool, now: datetime) -> None:
    began = not (error.transient and step.permit_id and permits.withdraw(step.permit_id))
    doubtful = began and error.transient and step.effect == Effect.ONCE
    if cancelled:
        cancel_step(step, actor=actor, now=now, doubtful=doubtful)
    elif isinstance(error, PermitMismatch) and step.approval_id is not None and step.attempt < step.max_attempts:
        _ask_anew(job, step, error, now=now)
    elif doubtful:
        end_attempt(step, "lost", now=now, error=error)
        doubt.enter(step, now=now, why=error.message, actor=actor)
    elif error.transient and step.attempt < step.max_attempts:
        _retry(job, step, error, actor=actor, now=now)
    elif isinstance(error, ToolRefused):
        end_attempt(step, "failed", now=now, error=error)
        move_step(
            step,
            StepState.REFUSED,
            now=now,
            event=Event.STEP_REFUSED,
            actor=actor,
            outcome="refused",
            context={"code": error.code},
            payload={"error": error.message},
            error_code=error.code,
            error=error.message[:4000],
        )
    else:
        fail(step, code=error.code, message=error.message, actor=actor, now=now)
        end_attempt(step, "failed", now=now, error=error)


def _retry(job: Job, step: Step, error: ToolError, *, actor: Actor, now: datetime) -> None:
    told = error.details.get("retry_after_s")
    delay_s = max(retry_delay_s(step.attempt), min(float(told), 600.0) if isinstance(told, int | float) else 0.0)
    end_attempt(step, "requeued", now=now, error=error)
    record(
        Event.STEP_REQUEUED,
        actor=actor,
        target=step_target(step),
        outcome="retry",
        context=step_facts(step, code=error.code, delay_ms=int(delay_s * 1000)),
    )
    step.error_code, step.error = error.code, error.message[:4000]
    Step.objects.filter(pk=step.pk).update(error_code=step.error_code, error=step.error)
    again(job, step, now=now, not_before=now + timedelta(seconds=delay_s))


def _ask_anew(job: Job, step: Step, error: PermitMismatch, *, now: datetime) -> None:
    """What would run is not what was approved: the approval is void, and people see the new state of things."""
    assert step.approval_id is not None
    record(
        Event.PERMIT_REFUSED,
        actor=Actor.system("runner"),
        target=step_target(step),
        outcome="mismatch",
        context=step_facts(step, approval=str(step.approval_id)),
        payload={"error": error.message},
    )
    requests.void(step.approval_id, why=error.message, now=now, actor=Actor.system("runner"))
    end_attempt(step, "requeued", now=now, error=error)
    step.approval_id = None
    again(job, step, now=now)


def cancel_step(step: Step, *, actor: Actor, now: datetime, doubtful: bool = False, **changes: Any) -> None:
    """Ends a step that ran. doubtful: nobody knows whether it happened, and the row and the log say so."""
    move_step(
        step,
        StepState.CANCELLED,
        now=now,
        event=Event.STEP_CANCELLED,
        actor=actor,
        outcome="in_doubt" if doubtful else "cancelled",
        error_code="cancelled",
        error="Cancelled while it ran; it may have happened." if doubtful else "Cancelled while it ran.",
        **changes,
    )
    end_attempt(step, "cancelled", now=now)


def _settled_before(step: Step, outcome: Result | ToolError) -> bool:
    """True where an earlier try of this same settlement was committed, and only the answer of the database was lost."""
    wanted = "succeeded" if isinstance(outcome, Result) and outcome.ok else ""
    seen = Attempt.objects.filter(step=step, number=step.attempt, ended_at__isnull=False)
    return seen.filter(outcome=wanted).exists() if wanted else seen.exclude(outcome__in=["lost", "late"]).exists()


def _late(step: Step, outcome: Result | ToolError, *, actor: Actor, now: datetime) -> None:
    ok = isinstance(outcome, Result) and outcome.ok
    record(
        Event.STEP_LATE_RESULT,
        actor=actor,
        target=step_target(step),
        outcome="ok" if ok else "failed",
        context=step_facts(step),
        payload={"summary": outcome.summary if isinstance(outcome, Result) else outcome.message},
    )
    Attempt.objects.filter(step=step, number=step.attempt).update(ended_at=now, outcome="late")
