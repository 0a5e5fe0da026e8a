"""Answers about steps in doubt, by their probe or by a person."""

import logging
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from agents.engine import doubt, failures, quarantine, settle
from agents.engine.advance import advance
from agents.engine.gate import again, call_of
from agents.engine.transitions import lock_job_of, step_facts, step_target
from agents.errors import NotAllowed, NotNow, StepMoved
from agents.models import Step
from agents.states import StepState
from approvals.eligibility import refusal
from approvals.models import ApprovalRequest
from audit.actor import Actor, ActorType
from audit.append import record
from audit.context import bind
from audit.kinds import Event
from tools import runner
from tools.errors import ToolError
from tools.spec import Result

log = logging.getLogger(__name__)


def probe(step_id: UUID, fence: int, *, worker: str) -> None:
    """Handles a message about a step in doubt: asks its tool, outside any transaction, and moves it by the answer."""
    step = Step.objects.filter(pk=step_id, state=StepState.IN_DOUBT, attempt=fence).first()
    if step is None or step.error_code == doubt.NEEDS_PERSON:
        return
    with bind(job=step.job_id, step=step_id):
        try:
            with quarantine.handling(step, "probe", worker=worker):
                found = runner.probe(call_of(step), subject=str(step.pk))
        except ToolError as error:
            log.warning("step.probe_unsure", extra={"tool": step.tool, "code": error.code})
            doubt.ask_person(step.pk, step.attempt, f"{step.error} The probe could not tell: {error.message}")
            return
        except settle.RETRY_ERRORS:
            raise  # the database is away: the sweeper sends it again
        except Exception as error:
            log.exception("step.probe_crashed", extra={"tool": step.tool})
            doubt.ask_person(step.pk, step.attempt, f"{step.error} The probe failed: {type(error).__name__}: {error}")
            return
        _answer(step.pk, step.attempt, found, actor=Actor.worker(worker), now=timezone.now())


def by_person(step_id: UUID, *, happened: bool, by: Actor, now: datetime, reason: str = "") -> None:
    """A person says whether a step in doubt happened: yes -> it succeeded; no -> it runs again.

    Raises:
        StepMoved: the step is not in doubt (any more).
        NotNow: its probe has not said yet that it cannot tell.
        NotAllowed: people approved the step, and `by` is none of those who may: the one who wanted it does not say
            alone that it has to happen again.
    """
    step = Step.objects.filter(pk=step_id, state=StepState.IN_DOUBT).first()
    if step is None:
        raise StepMoved(f"step {step_id} is not in doubt")
    if step.error_code != doubt.NEEDS_PERSON:
        raise NotNow("The step is being looked at: its tool has not said yet whether it happened.")
    _check_person(step, by)
    found = Result(ok=True, summary="Confirmed by a person.") if happened else None
    _answer(step_id, step.attempt, found, actor=by, now=now, reason=reason)


def _check_person(step: Step, by: Actor) -> None:
    if step.approval_id is None:
        return
    request = ApprovalRequest.objects.select_related("approvers").filter(pk=step.approval_id).first()
    if request is None or request.kind != ApprovalRequest.Kind.APPROVAL:
        return
    user = User.objects.filter(pk=by.id).first() if by.type == ActorType.USER else None
    why = refusal(request, user) if user is not None else "Only people say so."
    if why:
        raise NotAllowed(f"People approved this step, so one of them says what became of it. {why}")


@transaction.atomic
def _answer(
    step_id: UUID, fence: int, found: Result | None, *, actor: Actor, now: datetime, reason: str | None = None
) -> None:
    """reason: of a person, who is on record with it; None: the probe answers."""
    job = lock_job_of(step_id)
    step = Step.objects.filter(pk=step_id, state=StepState.IN_DOUBT, attempt=fence).first()
    if step is None:
        return
    if reason is not None:
        record(
            Event.STEP_ANSWERED,
            actor=actor,
            target=step_target(step),
            outcome="happened" if found is not None else "did_not_happen",
            context=step_facts(step),
            payload={"reason": reason, "known": step.error} if reason else {"known": step.error},
        )
    if found is not None:
        settle.succeed(job, step, found, actor=actor, now=now)
    elif settle.stopping(job, step):
        settle.cancel_step(step, actor=actor, now=now)
    elif quarantine.due(step):
        quarantine.set_aside(step, actor=actor, now=now)
    elif not failures.retried(step, "lost"):
        settle.fail(step, code="lost", message="Lost in every attempt; it did not happen.", actor=actor, now=now)
    else:
        record(
            Event.STEP_REQUEUED,
            actor=actor,
            target=step_target(step),
            outcome="did_not_happen",
            context=step_facts(step),
        )
        again(job, step, now=now)
    advance(job, now=now)
