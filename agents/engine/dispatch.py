"""Publishing after commit. A message is a hint: lost or doubled ones are harmless, the sweeper sends again."""

import logging
from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db import transaction

from agents.engine import backlog, publisher
from agents.engine.publisher import Message
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
    publish_all([(queue, (task, step_id, attempt))])


def publish_all(messages: Sequence[tuple[str, Message]], feeds: dict[UUID, int] | None = None) -> None:
    """The same for several `(queue, message)`, and a word to who reads these feeds (job: latest number)."""
    for queue, (_, step_id, attempt) in publisher.push_and_wake(messages, feeds or {}):
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
    return publisher.push(queue, [(task, step_id, attempt)]) == 1


def send_all(queue: str, messages: Sequence[Message]) -> int:
    """Publishes in order; how many the broker took before it failed."""
    return publisher.push(queue, messages)
