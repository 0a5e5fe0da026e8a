"""Every pair of states: legal or not, as the table says."""

import pytest

from agents.states import JOB_DONE, JOB_MOVES, STEP_DONE, STEP_MOVES, JobState, StepState


def test_every_state_stands_in_the_tables():
    assert set(JOB_MOVES) == set(JobState)
    assert set(STEP_MOVES) == set(StepState)


def test_what_has_ended_moves_again_only_where_a_person_retries_it_or_it_is_undone():
    assert {state: moves for state, moves in JOB_MOVES.items() if state in JOB_DONE} == {
        JobState.SUCCEEDED: set(),
        JobState.FAILED: {JobState.RUNNING},
        JobState.CANCELLED: {JobState.RUNNING},
        JobState.COMPENSATED: set(),
    }
    assert {state: moves for state, moves in STEP_MOVES.items() if state in STEP_DONE} == {
        StepState.SUCCEEDED: {StepState.COMPENSATED},
        StepState.FAILED: {StepState.PENDING},
        StepState.REFUSED: {StepState.PENDING},
        StepState.CANCELLED: {StepState.PENDING},
        StepState.SKIPPED: {StepState.PENDING},
        StepState.COMPENSATED: set(),
    }


@pytest.mark.parametrize("state", sorted(set(StepState) - STEP_DONE))
def test_every_open_step_can_be_cancelled(state):
    assert StepState.CANCELLED in STEP_MOVES[StepState(state)]


def test_a_step_begins_when_it_is_queued_or_when_it_is_released():
    """The second is both at once: the worker that ended what it needed goes on with it."""
    before = [state for state, moves in STEP_MOVES.items() if StepState.RUNNING in moves]
    assert before == [StepState.PENDING, StepState.QUEUED]


def test_every_state_can_be_reached():
    reached = {StepState.PENDING}
    while True:
        more = reached | {to for state in reached for to in STEP_MOVES[state]}
        if more == reached:
            break
        reached = more
    assert reached == set(StepState)
