"""Whose step it is, for handles of secrets (`tools.secrets`): asked only when a step uses one."""

from uuid import UUID

from agents.models import Step
from tools.secrets import Holder


def holder_of(subject: str) -> Holder | None:
    """The agent and the owner's groups of a step's job; None where there is no such step."""
    try:
        step_id = UUID(subject)
    except ValueError:
        return None
    step = Step.objects.filter(pk=step_id).select_related("job__agent", "job__owner").first()
    if step is None:
        return None
    agent, owner = step.job.agent, step.job.owner
    groups = tuple(sorted(owner.groups.values_list("name", flat=True)))
    return Holder(agent=agent.name if agent is not None else "", groups=groups)
