"""Rows in any state. The database lets a row begin in its first state only, so they get there by legal moves."""

from collections import deque
from collections.abc import Mapping
from typing import Any, TypeVar

from agents.models import Job, Step
from agents.states import JOB_MOVES, STEP_MOVES, JobState, StepState

State = TypeVar("State", JobState, StepState)


def job_in(state: str, **fields: Any) -> Job:
    """A job that came to `state`. `fields` go to the new row, whatever its state."""
    made = Job.objects.create(**fields)
    for to in _way(JOB_MOVES, JobState.QUEUED, JobState(state)):
        Job.objects.filter(pk=made.pk).update(state=to)
    made.state = state
    return made


def step_in(state: str, **fields: Any) -> Step:
    """A step that came to `state`; one that runs must be given its lease."""
    made = Step.objects.create(**fields)
    lease = fields.get("lease_until") or fields["created_at"]
    for to in _way(STEP_MOVES, StepState.PENDING, StepState(state)):
        Step.objects.filter(pk=made.pk).update(state=to, lease_until=lease if to == StepState.RUNNING else None)
    made.state = state
    return made


def move(step: Step, state: str, **changes: Any) -> None:
    """Brings a step from where it stands to `state`, by legal moves."""
    for to in _way(STEP_MOVES, StepState(step.state), StepState(state)):
        Step.objects.filter(pk=step.pk).update(state=to, **changes)
    step.state = state


def _way(moves: Mapping[State, frozenset[State]], first: State, last: State) -> list[State]:
    """The shortest chain of moves from `first`, which is left out, to `last`."""
    before: dict[State, State] = {}
    waiting = deque([first])
    while waiting:
        here = waiting.popleft()
        if here == last:
            way: list[State] = []
            while here != first:
                way.append(here)
                here = before[here]
            return way[::-1]
        for there in sorted(moves[here] - before.keys() - {first}):
            before[there] = here
            waiting.append(there)
    raise AssertionError(f"no way from {first} to {last}")
