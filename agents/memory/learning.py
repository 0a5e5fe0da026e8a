"""What is learned is proposed, and admitted where policy lets it; also, without any model, why a person denied a call."""

from datetime import datetime
from functools import partial
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from agents.engine import gate
from agents.errors import InvalidInput, NotNow
from agents.memory import keeping
from agents.memory.keeping import New, place_of, shorten
from agents.models import Job, Memory, Step
from agents.states import StepState
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.ids import uuid7
from tools import registry

ADMIT = "memory.admit"
LEARNING = Actor.system("memory")
POLICY = Actor.system("policy")


def decided(request: ApprovalRequest) -> None:
    """A callback of `approvals.hooks.on_decided`: what a person says with a denial is proposed as a lesson."""
    if request.subject_type == "step" and request.state == ApprovalRequest.State.DENIED and request.answer.strip():
        transaction.on_commit(partial(_from_denial, request.pk), robust=True)


def _from_denial(request_id: UUID) -> None:
    request = ApprovalRequest.objects.get(pk=request_id)
    step = Step.objects.select_related("job__agent", "job__repository", "job__owner").filter(pk=request.subject_id)
    found = step.first()
    if found is None or found.job.agent is None or request.state != ApprovalRequest.State.DENIED:
        return
    now = request.decided_at or timezone.now()
    new = New(
        kind=Memory.Kind.LESSON,
        text=f"A call of {found.tool} was denied: {shorten(request.answer, keeping.TEXT_MAX - 200)}",
        place=place_of(found.job),
        origin=Memory.Origin.DENIAL,
        key=f"denial:{request.pk}",
        untrusted=False,  # the words are the approver's
        job=found.job,
        step=found,
    )
    try:
        learn(new, found.job, actor=LEARNING, now=now)
    except InvalidInput:
        return


def learn(new: New, job: Job, *, actor: Actor, now: datetime) -> tuple[Memory, str]:
    """Proposes it; where the published policies allow `memory.admit` of just this, it is admitted at once.

    Gives the memory and the policy's rule that admitted it, or "".

    Raises:
        InvalidInput
    """
    with transaction.atomic():
        memory, is_new = keeping.propose(new, actor=actor, now=now)
        if not is_new:
            return memory, ""
        decision, _ = gate.decide(job, _admitting(memory, job, now), now=now)
        if decision.effect != "allow":
            return memory, ""
        rule = f"{decision.policy} rule {decision.rule}"
        try:
            keeping.admit(memory, actor=POLICY, why=rule, now=now, policy=decision.policy, rule=decision.rule)
        except NotNow:
            return memory, ""
        return memory, rule


def admitting(memory: Memory) -> dict[str, str]:
    """The arguments of `memory.admit` of this memory, as policies see them."""
    return {"memory": str(memory.pk), "kind": str(memory.kind), "origin": str(memory.origin), "text": memory.text}


def _admitting(memory: Memory, job: Job, now: datetime) -> Step:
    """The call that would admit it. It is asked about, and never written."""
    tool = registry.get(ADMIT)
    return Step(
        id=uuid7(),
        job=job,
        key="admit",
        tool=ADMIT,
        arguments=admitting(memory),
        effect=tool.effect,
        queue=tool.queue,
        state=StepState.PENDING,
        created_at=now,
    )
