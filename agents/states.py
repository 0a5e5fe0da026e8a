"""States of jobs and steps, and the legal moves between them."""

from django.db.models import TextChoices


class JobState(TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"  # on people: every unfinished step waits for an answer
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(TextChoices):
    PENDING = "pending"  # needs others
    READY = "ready"  # policy says ask: a worker makes the preview and opens the request
    WAITING_APPROVAL = "waiting_approval"
    QUEUED = "queued"  # permitted; a worker may claim it
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"  # by policy or by people
    IN_DOUBT = "in_doubt"  # a ONCE step was lost in mid-act and nobody knows whether it happened
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  # what it needs did not succeed


J, S = JobState, StepState

JOB_MOVES: dict[JobState, frozenset[JobState]] = {
    J.QUEUED: frozenset({J.RUNNING, J.WAITING, J.FAILED, J.CANCELLED, J.SUCCEEDED}),
    J.RUNNING: frozenset({J.WAITING, J.SUCCEEDED, J.FAILED, J.CANCELLED}),
    J.WAITING: frozenset({J.RUNNING, J.SUCCEEDED, J.FAILED, J.CANCELLED}),
    J.SUCCEEDED: frozenset(),
    J.FAILED: frozenset(),
    J.CANCELLED: frozenset(),
}

STEP_MOVES: dict[StepState, frozenset[StepState]] = {
    S.PENDING: frozenset({S.READY, S.QUEUED, S.REFUSED, S.CANCELLED, S.SKIPPED, S.WAITING_APPROVAL}),
    S.READY: frozenset({S.WAITING_APPROVAL, S.QUEUED, S.REFUSED, S.FAILED, S.CANCELLED}),
    S.WAITING_APPROVAL: frozenset({S.QUEUED, S.SUCCEEDED, S.REFUSED, S.READY, S.CANCELLED}),
    S.QUEUED: frozenset({S.RUNNING, S.CANCELLED}),
    S.RUNNING: frozenset({S.SUCCEEDED, S.FAILED, S.REFUSED, S.QUEUED, S.READY, S.IN_DOUBT, S.CANCELLED}),
    S.IN_DOUBT: frozenset({S.SUCCEEDED, S.FAILED, S.QUEUED, S.READY, S.REFUSED, S.CANCELLED}),
    S.SUCCEEDED: frozenset(),
    S.FAILED: frozenset(),
    S.REFUSED: frozenset(),
    S.CANCELLED: frozenset(),
    S.SKIPPED: frozenset(),
}

JOB_DONE = frozenset(state for state, moves in JOB_MOVES.items() if not moves)
STEP_DONE = frozenset(state for state, moves in STEP_MOVES.items() if not moves)
STEP_OPEN = frozenset(STEP_MOVES) - STEP_DONE
STEP_SENT = frozenset({S.READY, S.QUEUED, S.IN_DOUBT})  # a worker gets a message about it
