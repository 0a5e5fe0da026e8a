"""The act itself, outside any transaction: the call runs, and what came of it is settled by whoever asked."""

import logging
import math
import time
from uuid import UUID

from django.db import DataError, connection
from django.utils import timezone

from agents import feed
from agents.engine import settle
from agents.engine.hot.values import Delivery
from agents.engine.leases import Held
from agents.models import Step
from tools import runner
from tools.errors import ToolError
from tools.permits import Spent
from tools.snapshots import Keeper
from tools.spec import Call, Result

log = logging.getLogger(__name__)

SETTLE_AGAIN_S = 0.5


class NotStored(ToolError):
    """What came of the call is nothing that a row or a record can hold."""

    code = "result_not_stored"


class Interrupted(ToolError):
    """The database went away under a tool, or before its permit was spent."""

    code = "database_unavailable"
    transient = True


def act(
    call: Call,
    permit: UUID | Spent,
    *,
    attempt: int,
    held: Held,
    sink: feed.LogSink,
    delivery: Delivery,
    timeout_s: int | None = None,
) -> Result | ToolError:
    """Runs the call; whatever goes wrong becomes an error to settle. timeout_s: wall clock of this attempt."""
    outcome: Result | ToolError
    until = math.inf if timeout_s is None else time.monotonic() + timeout_s
    keeper = Keeper(str(held.step_id))

    def stop() -> bool:
        sink.tick()  # a line after which the tool is silent is seen while it works
        return held.stop_requested() or time.monotonic() > until

    try:
        outcome = runner.run(
            call,
            permit,
            worker=delivery.worker,
            on_output=sink,
            cancelled=stop,
            deadline_s=timeout_s,
            subject=str(held.step_id),
            keeper=keeper,
            now=timezone.now(),
        )
    except ToolError as error:
        outcome = error
    except settle.RETRY_ERRORS as error:
        outcome = Interrupted(f"The database was away: {type(error).__name__}.")
    except Exception as error:
        log.exception("step.crashed", extra={"attempt": attempt, "tool": call.tool})
        outcome = settle.Crashed(f"{type(error).__name__}: {error}")
    connection.close_if_unusable_or_obsolete()
    if time.monotonic() > until and not held.cancelled and not (isinstance(outcome, Result) and outcome.ok):
        log.warning("step.timed_out", extra={"attempt": attempt, "timeout_s": timeout_s})
        outcome = settle.TimedOut(f"Attempt {attempt} was stopped after {timeout_s} s.")
    if not held.lost:
        keeper.close()  # before the step is settled: whoever finds it ended finds what it left
    if held.lost:
        log.warning("step.lease_lost", extra={"attempt": attempt})
        if not isinstance(outcome, Result) or not outcome.ok:
            # stopped by ourselves, which says nothing about the step
            how = "was shut down" if held.handed_back else "lost its lease"
            outcome = settle.Lost(
                f"The worker {delivery.worker} {how} in attempt {attempt}.", handed_back=held.handed_back
            )
    sink.flush()
    return outcome


def settle_patiently(step: Step, outcome: Result | ToolError, held: Held, delivery: Delivery) -> None:
    """Writes the end down, and tries again while the database is away and the lease lasts. An end that no row can hold
    is written as a failure that says so: begun anew it would come to the same.

    Raises:
        OperationalError, InterfaceError: it did not come back in time. The sweeper takes the step over.
    """
    while True:
        try:
            settle.settle(step, outcome, worker=delivery.worker, cancelled=held.cancelled, now=timezone.now())
            return
        except settle.RETRY_ERRORS as error:
            connection.close()
            extra = {"attempt": step.attempt, "error": type(error).__name__}
            if held.lost:
                log.error("step.settle_failed", extra=extra)
                raise
            log.warning("step.settle_again", extra=extra)
            time.sleep(SETTLE_AGAIN_S)
        except (DataError, ValueError) as error:
            if isinstance(outcome, NotStored):
                raise
            log.exception("step.not_stored", extra={"attempt": step.attempt})
            outcome = NotStored(f"It ran, but what came of it cannot be written down ({type(error).__name__}).")
