"""Who took part in a call, and therefore decides neither it nor what it leads to: superusers too."""

from agents.engine.control.edited import editors
from agents.models import Job, Step

REQUESTER, EDITOR, DELEGATOR, AGENT_OWNER = "requester", "editor", "delegator", "agent owner"
DEEPEST = 32


def parts_of(job: Job, step: Step) -> dict[int, str]:
    """{user (primary key): part}: whose job it is, who edited the call, whose jobs handed the work down to this one, who
    answers for the agents of any of them, and who made the tokens by which any was submitted."""
    found: dict[int, str] = {job.owner_id: REQUESTER}
    for user in editors(step):
        found.setdefault(user, EDITOR)
    level: Job | None = job
    for _ in range(DEEPEST):
        if level is None:
            break
        if level.pk != job.pk:
            found.setdefault(level.owner_id, DELEGATOR)
        if level.agent is not None and level.agent.owner_id is not None:
            found.setdefault(level.agent.owner_id, AGENT_OWNER)
        for user_id, part in level.took_part.items():
            found.setdefault(int(user_id), str(part))
        level = Job.objects.select_related("agent").filter(pk=level.parent_id).first() if level.parent_id else None
    return found
