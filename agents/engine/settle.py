"""The end of an attempt: result, audit, what comes next and its dispatch, in one transaction."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import InterfaceError, OperationalError, transaction

from agents.engine import doubt, ending, failures, fanout, planned, quarantine, think
from agents.engine.advance import THINK, advance
from agents.engine.ending import PLAN
from agents.engine.gate import again
from agents.engine.limits import freed
from agents.engine.transitions import ENGINE, lock_job, move_step, step_facts, step_target
from agents.models import Attempt, Job, Step
from agents.provenance import labels
from agents.states import StepState
from approvals import executing, requests
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event
from tools import permits
from tools.errors import PermitMismatch, ToolError, ToolRefused
from tools.spec import Effect, Result

RETRY_ERRORS = (OperationalError, InterfaceError)


_OTHERS = (PLAN, "llm.compact", "llm.draft_workflow")
GROWS = frozenset({THINK, *planned.TOOLS})  # when they succeed, the job may have new steps
_ASK_MODELS = (
    THINK,
    "llm.complete",
    "llm.prompt",
    "evolve.propose",
    "llm.title",
    "llm.summarise",
    "memory.learn",
    *_OTHERS,
)  # what they used counts against the job's tokens


class Crashed(ToolError):
    """A tool raised what it does not declare: a bug."""

    code = "internal_error"


class TimedOut(ToolError):
    """The attempt was stopped since it was over its time."""

    code = "timeout"


class Lost(ToolError):
    """The worker died or lost its lease in mid-act: what the attempt did is unknown."""

    code = "lost"


@transaction.atomic
def settle(step: Step, outcome: Result | ToolError, *, worker: str, cancelled: bool, now: datetime) -> bool:
    """Writes how the attempt ended, fenced by (id, running, attempt).

    False: the lease was lost meanwhile; the result is recorded as late and changes nothing.
    """
    if step.approval_id is not None and isinstance(outcome, PermitMismatch):
        executing.hold(step.approval_id)  # it may become void: before the job, as everywhere
    job = lock_job(step.job_id)
    held = Step.objects.filter(pk=step.pk, state=StepState.RUNNING, attempt=step.attempt).first()
    actor = Actor.worker(worker)
    if held is None:
        if not _settled_before(step, outcome):
            _late(step, outcome, actor=actor, now=now)
        return False
    transaction.on_commit(partial(freed, held, now=now))
    step = held
    cancelled = cancelled or stopping(job, step)  # the worker may not have heard of it yet
    if isinstance(outcome, Lost):
        lost(job, step, outcome, actor=actor, now=now)
    elif isinstance(outcome, Result):
        _ended(job, step, outcome, actor=actor, cancelled=cancelled, now=now)
    else:
        _broke(job, step, outcome, actor=actor, cancelled=cancelled, now=now)
    advance(job, now=now, ended=None if step.tool in GROWS or step.state == StepState.PENDING else [step])
    return True


def stopping(job: Job, step: Step) -> bool:
    """Was it cancelled? What undoes a cancelled job goes on."""
    return step.cancel_requested or (job.cancel_requested and step.compensates_id is None)


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
    tokens = _tokens(result.data) if step.tool in _ASK_MODELS else 0
    if step.parent_id is not None:
        result = fanout.keep(step, result)
    facts = {"exit_code": result.exit_code, "tier": result.sandbox.get("tier", ""), "tokens": tokens}
    if step.tool in _ASK_MODELS:
        facts |= _asked(result.data)
    move_step(
        step,
        StepState.SUCCEEDED,
        now=now,
        event=Event.STEP_CONFIRMED,
        actor=actor,
        context=facts,
        payload={"summary": result.summary, "text": result.text},
        result=result_json(result),
        labels=labels.of_result(step, result),
        tokens=tokens,
        error_class="",
        error_code="",
        error="",
    )
    end_attempt(step, "succeeded", now=now)
    if tokens:
        Job.objects.filter(pk=job.pk).update(tokens_used=job.tokens_used + tokens)
        job.tokens_used += tokens
    if step.tool == THINK and not job.cancel_requested:
        think.append_steps(job, step, result, now=now)
    if step.tool in planned.TOOLS and not job.cancel_requested:
        planned.went_on(job, step, result, now=now)


def _asked(data: Mapping[str, Any]) -> dict[str, Any]:
    """Who answered, and by which version of a prompt, for the log."""
    prompt = data.get("prompt")
    by = f"{prompt['name']}@{prompt['version']}" if isinstance(prompt, dict) else prompt
    known = {"model": str(data.get("model") or "")[:120], "scripted": data.get("scripted"), "prompt": by}
    return {name: value for name, value in known.items() if value}


def _tokens(data: Mapping[str, Any]) -> int:
    """What a model's answer used, or those of a map's chunk together."""
    usage = data.get("usage") or {}
    own = int(usage.get("prompt_tokens", 0)) + int(usage.get("completion_tokens", 0))
    return own + sum(_tokens(one.get("data") or {}) for one in data.get("items", ()) if isinstance(one, dict))


def lost(job: Job, step: Step, error: ToolError, *, actor: Actor, now: datetime) -> None:
    """An attempt of a running step came to an unknown end. It runs again where that is harmless: its permit was not
    spent (and is withdrawn, so that no worker that wakes up late can spend it), or its effect is repeatable. Else it
    is in doubt."""
    began = not (step.permit_id and permits.withdraw(step.permit_id))
    doubtful = began and step.effect == Effect.ONCE
    end_attempt(step, "lost", now=now, error=error)
    _count(step, error)
    if actor == ENGINE:  # a worker that tells of it lives
        quarantine.count_loss(step)
    if stopping(job, step):
        cancel_step(step, actor=actor, now=now, doubtful=doubtful)
    elif doubtful:
        doubt.enter(step, now=now, why=error.message, actor=actor)
    elif quarantine.due(step):
        quarantine.set_aside(step, actor=actor, now=now)
    elif not failures.retried(step, "lost"):
        fail(step, code=error.code, message=error.message, actor=actor, now=now)
    else:
        record(
            Event.STEP_REQUEUED,
            actor=actor,
            target=step_target(step),
            outcome="lost",
            context=step_facts(step, **{"class": "lost"}),
        )
        step.error_class = "lost"
        Step.objects.filter(pk=step.pk).update(error_class=step.error_class)
        again(job, step, now=now)


def _count(step: Step, error: ToolError) -> None:
    """An attempt that was handed back, as one that found no room, is not the step's fault and none of its budget."""
    if error.details.get("handed_back"):
        step.max_attempts += 1
        Step.objects.filter(pk=step.pk).update(max_attempts=step.max_attempts)


def fail(
    step: Step, *, code: str, message: str, actor: Actor, now: datetime, error_class: str = "", **changes: Any
) -> None:
    """The step ended without its effect: it goes another way where it has one, else it has failed.

    error_class: as of its code by default.
    """
    error_class = error_class or failures.of_code(code)
    if failures.fall_back(step, error_class=error_class, code=code, message=message, now=now, actor=actor):
        return
    move_step(
        step,
        StepState.FAILED,
        now=now,
        event=Event.STEP_FAILED,
        actor=actor,
        outcome="failed",
        context={"code": code, "class": error_class},
        payload={"error": message},
        error_class=error_class,
        error_code=code,
        error=message[:4000],
        **changes,
    )


def _ended(job: Job, step: Step, result: Result, *, actor: Actor, cancelled: bool, now: datetime) -> None:
    if result.ok:
        succeed(job, step, result, actor=actor, now=now)
        return
    if step.parent_id is not None:
        result = fanout.keep(step, result)
    if cancelled:
        cancel_step(step, actor=actor, now=now, result=result_json(result))
        return
    error = Failed(result.summary)
    error.code = failures.code_of(result)
    error_class = failures.of(result)
    if step.effect != Effect.ONCE and failures.retried(step, error_class, declared=False):
        _retry(job, step, error, error_class, actor=actor, now=now)
        return
    end_attempt(step, "failed", now=now, error=error)
    fail(
        step,
        code=error.code,
        message=result.summary,
        error_class=error_class,
        actor=actor,
        now=now,
        result=result_json(result),
    )


class Failed(ToolError):
    """The tool ran to its end and says that it failed."""

    code = "not_ok"


def _broke(job: Job, step: Step, error: ToolError, *, actor: Actor, cancelled: bool, now: datetime) -> None:
    _count(step, error)
    error_class = failures.of(error)
    unsure = error.transient or isinstance(error, TimedOut)  # it may have had its effect
    again_perhaps = error.transient or failures.retried(step, error_class)
    began = not ((unsure or again_perhaps) and step.permit_id and permits.withdraw(step.permit_id))
    doubtful = began and unsure and step.effect == Effect.ONCE
    if cancelled:
        cancel_step(step, actor=actor, now=now, doubtful=doubtful)
    elif isinstance(error, PermitMismatch) and step.approval_id is not None and step.attempt < step.max_attempts:
        _ask_anew(job, step, error, now=now)
    elif doubtful:
        end_attempt(step, "lost", now=now, error=error)
        doubt.enter(step, now=now, why=error.message, actor=actor)
    elif failures.retried(step, error_class) and not (began and step.effect == Effect.ONCE):
        _retry(job, step, error, error_class, actor=actor, now=now)
    else:
        end_attempt(step, "failed", now=now, error=error)
        if isinstance(error, ToolRefused):
            _refuse(step, error, error_class, actor=actor, now=now)
        else:
            fail(step, code=error.code, message=error.message, error_class=error_class, actor=actor, now=now)


def _refuse(step: Step, error: ToolError, error_class: str, *, actor: Actor, now: datetime) -> None:
    if failures.fall_back(step, error_class=error_class, code=error.code, message=error.message, now=now, actor=actor):
        return
    move_step(
        step,
        StepState.REFUSED,
        now=now,
        event=Event.STEP_REFUSED,
        actor=actor,
        outcome="refused",
        context={"code": error.code, "class": error_class},
        payload={"error": error.message},
        error_class=error_class,
        error_code=error.code,
        error=error.message[:4000],
    )


def _retry(job: Job, step: Step, error: ToolError, error_class: str, *, actor: Actor, now: datetime) -> None:
    delay_s = failures.delay_s(step, error.details.get("retry_after_s"))
    end_attempt(step, "requeued", now=now, error=error)
    record(
        Event.STEP_REQUEUED,
        actor=actor,
        target=step_target(step),
        outcome="retry",
        context=step_facts(step, code=error.code, **{"class": error_class}, delay_ms=int(delay_s * 1000)),
    )
    _keep_error(step, error_class, error.code, error.message)
    again(job, step, now=now, not_before=now + timedelta(seconds=delay_s))


def _keep_error(step: Step, error_class: str, code: str, message: str) -> None:
    """Why the attempt before failed stays on the row while it waits for the next one."""
    step.error_class, step.error_code, step.error = error_class, code, message[:4000]
    Step.objects.filter(pk=step.pk).update(error_class=error_class, error_code=code, error=step.error)


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
        error_code="deadline" if ending.overdue(step.job) else "cancelled",
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
