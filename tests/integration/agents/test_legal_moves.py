"""The database knows the same moves as `agents.states`, and refuses every other, whoever asks."""

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from agents.models import Job, Step
from agents.states import JOB_MOVES, STEP_DONE, STEP_MOVES, JobState, StepState
from tests.factories.people import user
from tests.factories.states import job_in, step_in

pytestmark = pytest.mark.django_db


def a_job(**fields) -> Job:
    return Job.objects.create(kind="plan", goal="g", owner=user("ada"), created_at=timezone.now(), **fields)


def a_step(job: Job, key: str = "a", **fields) -> Step:
    given = {"seq": 1, "tool": "t", "effect": "read", "queue": "shell", "created_at": timezone.now(), **fields}
    return Step.objects.create(job=job, key=key, **given)


def allowed_moves(table: str, pk: object, states: list[str]) -> set[tuple[str, str]]:
    """What the database lets through, tried pair by pair. The row is put where each try begins past the triggers."""
    found = set()
    with connection.cursor() as cursor:
        for was in states:
            for now in states:
                cursor.execute("SET LOCAL session_replication_role = replica")
                cursor.execute(f"UPDATE {table} SET state = %s WHERE id = %s", [was, pk])
                cursor.execute("SET LOCAL session_replication_role = origin")
                try:
                    with transaction.atomic():
                        cursor.execute(f"UPDATE {table} SET state = %s WHERE id = %s", [now, pk])
                    found.add((was, now))
                except IntegrityError:
                    continue
    return found


def told(moves) -> set[tuple[str, str]]:
    """Staying where it is is no move."""
    return {(str(was), str(now)) for was, reachable in moves.items() for now in (*reachable, was)}


def test_the_database_allows_the_moves_of_jobs_that_the_code_does_and_no_other():
    assert allowed_moves("agents_job", a_job().pk, JobState.values) == told(JOB_MOVES)


def test_the_database_allows_the_moves_of_steps_that_the_code_does_and_no_other():
    step = a_step(a_job(), lease_until=timezone.now())
    assert allowed_moves("agents_step", step.pk, StepState.values) == told(STEP_MOVES)


@pytest.mark.parametrize("state", sorted(set(JobState) - {JobState.QUEUED}))
def test_a_job_begins_queued(state):
    with pytest.raises(IntegrityError, match="no state to begin in"):
        a_job(state=state)


@pytest.mark.parametrize("state", sorted(set(StepState) - {StepState.PENDING}))
def test_a_step_begins_pending(state):
    with pytest.raises(IntegrityError, match="no state to begin in"):
        a_step(a_job(), state=state, lease_until=timezone.now())


def test_a_fork_begins_with_copies_of_steps_that_ended_and_with_no_others():
    fork = a_job(forked_from=a_job())
    began = set()
    for number, state in enumerate(StepState):
        try:
            with transaction.atomic():
                a_step(fork, str(number), seq=number, state=state, lease_until=timezone.now())
            began.add(state)
        except IntegrityError:
            continue
    assert began == {StepState.PENDING, *STEP_DONE} - {StepState.COMPENSATED}


def test_the_fence_never_goes_down():
    step = a_step(a_job(), attempt=2)
    Step.objects.filter(pk=step.pk).update(attempt=3)
    with pytest.raises(IntegrityError, match="the fence never goes down"):
        Step.objects.filter(pk=step.pk).update(attempt=2)


def test_rows_for_tests_come_to_every_state():
    job = a_job()
    for state in JobState:
        assert job_in(state, kind="plan", goal="g", owner=job.owner, created_at=job.created_at).state == state
    given = {"tool": "t", "effect": "read", "queue": "shell", "created_at": job.created_at}
    for number, state in enumerate(StepState):
        step_in(state, job=job, key=str(number), seq=number, **given)
    assert set(job.steps.values_list("state", flat=True)) == set(StepState.values)
