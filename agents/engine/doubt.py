"""A ONCE step that was lost in mid-act: did it happen? Its tool's probe answers, else a person."""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from agents.engine import dispatch
from agents.engine.transitions import ENGINE, lock_job_of, move_step
from agents.models import Step
from agents.states import StepState
from audit.actor import Actor
from audit.kinds import Event

NEEDS_PERSON = "needs_person"


def enter(step: Step, *, now: datetime, why: str, actor: Actor = ENGINE) -> None:
    """Marks a running step as in doubt and sends its probe."""
    move_step(
        step,
        StepState.IN_DOUBT,
        now=now,
        event=Event.STEP_IN_DOUBT,
        actor=actor,
        outcome="in_doubt",
        payload={"why": why},
        error_code="in_doubt",
        error=why[:4000],
        lease_until=None,
        dispatched_at=now,
    )
    dispatch.after_commit(step, task=dispatch.PROBE)


@transaction.atomic
def ask_person(step_id: UUID, fence: int, why: str) -> None:
    """Nobody can tell: the step stays in doubt until a person says what happened."""
    lock_job_of(step_id)
    Step.objects.filter(pk=step_id, state=StepState.IN_DOUBT, attempt=fence).update(
        error_code=NEEDS_PERSON, error=why[:4000]
    )
