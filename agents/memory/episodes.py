"""What happened, noted by the server itself as jobs end."""

import logging
from datetime import datetime

from django.db import DatabaseError

from agents.errors import InvalidInput
from agents.memory import keeping
from agents.memory.keeping import New, place_of, shorten
from agents.models import Job, Memory

log = logging.getLogger(__name__)

GOAL_CHARS, OUTCOME_CHARS = 400, 1000


def job_ended(job: Job, *, now: datetime) -> None:
    """An agent's job becomes an episode, in the transaction that ends it. Plans and workflows tell nothing new."""
    if job.kind != Job.Kind.GOAL or job.agent_id is None or job.parent_id is not None:
        return
    text = f"Goal: {shorten(job.goal, GOAL_CHARS)}\nEnded: {job.state}\nOutcome: {shorten(job.outcome, OUTCOME_CHARS)}"
    new = New(
        kind=Memory.Kind.EPISODE,
        text=text,
        place=place_of(job),
        origin=Memory.Origin.OUTCOME,
        key=f"episode:{job.pk}",
        job=job,
    )
    try:
        keeping.note_episode(new, now=now)
    except InvalidInput:  # nothing of it can be shown
        return
    except DatabaseError as error:  # a job ends, whether or not it is remembered
        log.warning("memory.no_episode", extra={"job": str(job.pk), "error": type(error).__name__})
