"""States of jobs and steps, and the legal moves between them."""

from django.db.models import TextChoices


class JobState(TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"  # on people: every unfinished step waits for an answer
    PAUSED = "paused"  # by a person: what runs ends, nothing else begins
    COMPENSATING = "compensating"  # it failed or was cancelled, and undoes what it did
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    COMPENSATED = "compensated"  # it failed or was cancelled, and what it did is undone


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
    SKIPPED = "skipped"  # what it needs did not succeed, or its condition does not hold
    COMPENSATED = "compensated"  # it succeeded, and was undone by a step of its own


J, S = JobState, StepState

JOB_MOVES: dict[JobState, frozenset[JobState]] = {
    J.QUEUED: frozenset({J.RUNNING, J.WAITING, J.PAUSED, J.COMPENSATING, J.FAILED, J.CANCELLED, J.SUCCEEDED}),
    J.RUNNING: frozenset({J.WAITING, J.PAUSED, J.COMPENSATING, J.SUCCEEDED, J.FAILED, J.CANCELLED}),
    J.WAITING: frozenset({J.RUNNING, J.PAUSED, J.COMPENSATING, J.SUCCEEDED, J.FAILED, J.CANCELLED}),
    J.PAUSED: frozenset({J.QUEUED, J.RUNNING, J.WAITING, J.COMPENSATING, J.SUCCEEDED, J.FAILED, J.CANCELLED}),
    J.COMPENSATING: frozenset({J.PAUSED, J.COMPENSATED, J.FAILED, J.CANCELLED}),
    J.SUCCEEDED: frozenset(),
    J.FAILED: frozenset({J.RUNNING}),  # retried by a person
    J.CANCELLED: frozenset({J.RUNNING}),  # retried by a person
    J.COMPENSATED: frozenset(),
}

STEP_MOVES: dict[StepState, frozenset[StepState]] = {
    S.PENDING: frozenset(
        # running: queued and claimed in one commit, by the worker that ended what the step needed
        {S.READY, S.QUEUED, S.RUNNING, S.SUCCEEDED, S.FAILED, S.REFUSED, S.CANCELLED, S.SKIPPED, S.WAITING_APPROVAL}
    ),
    S.READY: frozenset({S.PENDING, S.WAITING_APPROVAL, S.QUEUED, S.REFUSED, S.FAILED, S.CANCELLED}),
    S.WAITING_APPROVAL: frozenset({S.PENDING, S.QUEUED, S.SUCCEEDED, S.REFUSED, S.READY, S.CANCELLED}),
    S.QUEUED: frozenset({S.PENDING, S.RUNNING, S.CANCELLED, S.REFUSED}),
    S.RUNNING: frozenset({S.PENDING, S.SUCCEEDED, S.FAILED, S.REFUSED, S.QUEUED, S.READY, S.IN_DOUBT, S.CANCELLED}),
    S.IN_DOUBT: frozenset({S.PENDING, S.SUCCEEDED, S.FAILED, S.QUEUED, S.READY, S.REFUSED, S.CANCELLED}),
    S.SUCCEEDED: frozenset({S.COMPENSATED}),
    S.FAILED: frozenset({S.PENDING}),  # retried by a person, with its job
    S.REFUSED: frozenset({S.PENDING}),
    S.CANCELLED: frozenset({S.PENDING}),
    S.SKIPPED: frozenset({S.PENDING}),
    S.COMPENSATED: frozenset(),
}

JOB_DONE = frozenset({J.SUCCEEDED, J.FAILED, J.CANCELLED, J.COMPENSATED})
STEP_DONE = frozenset({S.SUCCEEDED, S.FAILED, S.REFUSED, S.CANCELLED, S.SKIPPED, S.COMPENSATED})
STEP_OPEN = frozenset(STEP_MOVES) - STEP_DONE
STEP_SENT = frozenset({S.READY, S.QUEUED, S.IN_DOUBT})  # a worker gets a message about it
