"""A worker's thread on the hot path: claim, act, settle, and on with the job's next step."""

import logging
import time
from collections.abc import Callable
from uuid import UUID

from django.conf import settings
from django.db import connection

from agents import feed
from agents.engine.acting import act, settle_patiently
from agents.engine.hot import turn
from agents.engine.hot.combine import Combiner
from agents.engine.hot.values import Answer, Claim, Claimed, Delivery, Otherwise, Settled, Success, Wish
from agents.engine.leases import Held, leases
from agents.models import Step
from audit.context import bind
from tools.errors import ToolError
from tools.spec import Result

log = logging.getLogger(__name__)

# How long a thread goes on with steps of the same job (settings.STEPS_PER_TASK) before others have their turn.
FOLLOW_S = 1.0

_together: Combiner[Wish, Answer] = Combiner(turn.take)


def _turns(wish: Wish) -> Answer:
    """Together with other threads' wishes; alone where somebody holds its job, so that no other wish waits with it."""
    answer = _together(wish)
    return turn.take([wish], patient=True)[0] if answer is Otherwise.BUSY else answer


def run(step_id: UUID, fence: int, delivery: Delivery, *, may_follow: Callable[[], bool]) -> bool:
    """Handles one message where it is plain; False: the general code has to, and nothing was done."""
    if connection.in_atomic_block:
        return False  # a caller's own transaction, which other connections cannot see
    since = time.monotonic()
    claimed = _turns(Claim(step_id=step_id, fence=fence, delivery=delivery, since=since))
    if claimed is Otherwise.LOST:
        return True
    if not isinstance(claimed, Claimed):
        return False
    next_one: Claimed | None = claimed
    taken = 0
    while next_one is not None:
        taken += 1
        with bind(job=next_one.job_id, step=next_one.step_id):
            log.debug("step.claimed", extra={"attempt": next_one.attempt, "tool": next_one.call.tool})
            until = since + FOLLOW_S if taken < settings.STEPS_PER_TASK else 0.0
            next_one = _through(next_one, delivery, until=until, may_follow=may_follow)
    return True


def _through(claimed: Claimed, delivery: Delivery, *, until: float, may_follow: Callable[[], bool]) -> Claimed | None:
    """Runs a claimed step to its end; the next one, where this thread has claimed that with it."""
    sink = feed.LogSink(claimed.job_id, claimed.step_id, claimed.attempt)
    with leases.hold(claimed.step_id, claimed.attempt, since=claimed.since) as held:
        outcome = act(claimed.call, claimed.permit, attempt=claimed.attempt, held=held, sink=sink, delivery=delivery)
        if _plain(outcome, held):
            assert isinstance(outcome, Result)
            now = time.monotonic()
            answer = _turns(
                Success(
                    claimed=claimed,
                    result=outcome,
                    delivery=delivery,
                    follow=now < until and may_follow(),
                    since=now,
                )
            )
            if isinstance(answer, Settled):
                return answer.next
        step = Step.objects.get(pk=claimed.step_id)
        step.attempt = claimed.attempt
        settle_patiently(step, outcome, held, delivery)
    return None


def _plain(outcome: Result | ToolError, held: Held) -> bool:
    return isinstance(outcome, Result) and outcome.ok and not (held.cancelled or held.lost)
