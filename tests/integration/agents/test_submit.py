"""Idempotent submission, also where two race."""

import threading

import pytest
from django.db import connection
from django.utils import timezone

from agents.errors import IdempotencyConflict, InvalidInput, InvalidPlan
from agents.models import Job
from agents.submit import submit
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.api import JOBS, client, nothing_is_left, problem, step

PLAN = {"steps": [step("a"), step("b", needs=["a"])]}


@pytest.fixture
def ada(test_tools):
    publish(("test.*", "allow"))
    return user("ada")


@pytest.mark.django_db
def test_the_same_key_and_body_give_the_same_job(ada):
    first = client(ada).post(JOBS, PLAN, headers={"Idempotency-Key": "k-1"})
    second = client(ada).post(JOBS, PLAN, headers={"Idempotency-Key": "k-1"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert "Idempotency-Replayed" not in first
    assert second["Idempotency-Replayed"] == "true"
    assert Job.objects.count() == 1


@pytest.mark.django_db
def test_the_same_key_with_another_body_is_refused(ada):
    client(ada).post(JOBS, PLAN, headers={"Idempotency-Key": "k-1"})
    other = {**PLAN, "priority": 1}
    problem(client(ada).post(JOBS, other, headers={"Idempotency-Key": "k-1"}), 422, "idempotency_conflict")
    assert Job.objects.count() == 1


@pytest.mark.django_db
def test_a_refused_submission_does_not_use_up_its_key(ada):
    with pytest.raises(InvalidPlan):
        submit({"steps": [step(tool="no.tool")]}, user=ada, idempotency_key="k-1", now=timezone.now())
    assert nothing_is_left()
    assert submit(PLAN, user=ada, idempotency_key="k-1", now=timezone.now())[1] is True


@pytest.mark.django_db
def test_a_key_is_private_to_its_user(ada):
    one, _ = submit(PLAN, user=ada, idempotency_key="k-1", now=timezone.now())
    two, created = submit({"steps": [step()]}, user=user("bob"), idempotency_key="k-1", now=timezone.now())
    assert created and one.pk != two.pk


@pytest.mark.django_db
def test_without_a_key_every_submission_is_a_new_job(ada):
    assert submit(PLAN, user=ada, now=timezone.now())[0].pk != submit(PLAN, user=ada, now=timezone.now())[0].pk


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["a b", "x" * 201, "é", "\x7f"])
def test_a_key_that_is_not_plain_is_refused(ada, key):
    with pytest.raises(InvalidInput) as caught:
        submit(PLAN, user=ada, idempotency_key=key, now=timezone.now())
    assert caught.value.field == "Idempotency-Key"
    assert nothing_is_left()


@pytest.mark.django_db
def test_an_empty_key_is_refused_rather_than_ignored(ada):
    response = client(ada).post(JOBS, PLAN, headers={"Idempotency-Key": ""})
    problem(response, 400, "invalid_input", "Idempotency-Key")
    assert nothing_is_left()


def _race(ada, payloads):
    barrier, outcomes = threading.Barrier(len(payloads)), []

    def one(payload):
        try:
            barrier.wait(60)
            job, created = submit(payload, user=ada, idempotency_key="k-race", now=timezone.now())
            outcomes.append((job.pk, created))
        except IdempotencyConflict:
            outcomes.append(("conflict", False))
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(payload,)) for payload in payloads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


@pytest.mark.django_db(transaction=True)
def test_eight_submissions_at_once_with_one_key_give_one_job(ada):
    outcomes = _race(ada, [PLAN] * 8)
    assert len(outcomes) == 8
    assert len({pk for pk, _ in outcomes}) == 1
    assert sum(created for _, created in outcomes) == 1
    assert Job.objects.count() == 1
    assert Job.objects.get().steps.count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_two_bodies_at_once_with_one_key_one_is_refused(ada):
    outcomes = _race(ada, [PLAN, {**PLAN, "priority": 1}] * 3)
    assert Job.objects.count() == 1
    assert sum(created for _, created in outcomes) == 1
    assert sum(pk == "conflict" for pk, _ in outcomes) == 3
