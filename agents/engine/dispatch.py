"""Publishing after commit. A message is a hint: lost or doubled ones are harmless, the sweeper sends again."""

import logging
from collections.abc import Iterable, Sequence
from uuid import UUID

from celery import current_app
from django.db import transaction
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from agents.engine import backlog
from agents.models import Job, Step
from agents.states import STEP_SENT

log = logging.getLogger(__name__)

RUN, PROBE, START_CHILD, END_CHILD = "agents.run_step", "agents.probe_step", "agents.start_child", "agents.end_child"
CONTROL = "control"


def after_commit(step: Step, *, task: str = RUN) -> None:
    """Publishes `(step id, attempt)` to the step's queue once the caller's transaction has committed.

    The caller has set `dispatched_at` in that transaction; where the queue is not short or publishing fails it is
    cleared again, and the step is released when its turn comes (`agents.engine.release`).
    """
    step_id, attempt, queue = step.pk, step.attempt, step.queue
    go = _hold_back if backlog.capped(step.tenant_id) else publish
    transaction.on_commit(lambda: go(task, step_id, attempt, queue))


def _hold_back(task: str, step_id: UUID, attempt: int, queue: str) -> None:
    """The step waits for its release, which counts what runs of its tenant."""
    Step.objects.filter(pk=step_id, attempt=attempt, state__in=STEP_SENT).update(dispatched_at=None)
    backlog.note(queue)


def start_child_after_commit(step: Step) -> None:
    """Asks the `control` queue to start the job that the step waits for; the sweeper does where this is lost."""
    step_id, attempt = step.pk, step.attempt
    transaction.on_commit(lambda: send(START_CHILD, step_id, attempt, CONTROL))


def end_child_after_commit(job: Job) -> None:
    """Asks the `control` queue to end the step that waited for this job; the sweeper does where this is lost."""
    job_id = job.pk
    transaction.on_commit(lambda: send(END_CHILD, job_id, 0, CONTROL))


def publish(task: str, step_id: UUID, attempt: int, queue: str) -> None:
    """Publishes where the queue is short; else, and where that fails, the step waits for its release."""
    if not (backlog.admits(queue) and send(task, step_id, attempt, queue)):
        Step.objects.filter(pk=step_id, attempt=attempt, state__in=STEP_SENT).update(dispatched_at=None)
        backlog.note(queue)


def hand_back(messages: Iterable[tuple[UUID, int]]) -> None:
    """Messages `(step id, attempt)` that were consumed and will not be handled: the next sweep sends them again."""
    found = 0
    for step_id, attempt in messages:
        found += Step.objects.filter(pk=step_id, attempt=attempt, state__in=STEP_SENT).update(dispatched_at=None)
    if found:
        log.info("worker.handed_back", extra={"messages": found})


def send(task: str, step_id: UUID, attempt: int, queue: str) -> bool:
    """Publishes now. False: the broker did not take it."""
    try:
        current_app.send_task(task, args=[str(step_id), attempt], queue=queue, ignore_result=True)
    except (KombuError, RedisError, OSError) as error:
        log.warning("step.publish_failed", extra={"step": str(step_id), "queue": queue, "error": type(error).__name__})
        return False
    return True


def send_all(queue: str, messages: Sequence[tuple[str, UUID, int]]) -> int:
    """Publishes `(task, step id, attempt)` in order; how many the broker took before it failed."""
    for done, (task, step_id, attempt) in enumerate(messages):
        if not send(task, step_id, attempt, queue):
            return done
    return len(messages)
