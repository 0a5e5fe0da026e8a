"""Concurrency keys: of the jobs that share one, one runs at a time, in the order of their submission."""

from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError
from django.utils import timezone

from agents.engine import keys
from agents.engine.cancel import cancel_job
from agents.engine.recover import sweep
from agents.errors import KeyBusy
from agents.models import Job, Step
from agents.states import JOB_DONE, JobState
from agents.submit import submit
from audit.actor import Actor
from audit.kinds import Event
from audit.models import Record
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.test_engine import run_queued
from tests.integration.agents.test_engine_recovery import side_by_side

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

KEY = "deploy/prod"


@pytest.fixture(autouse=True)
def _allowed():
    publish(("test.*", "allow"))


def job(name: str = "ada", *, key: str = KEY, fail: str = "", **more: Any) -> Job:
    arguments = {"text": "a", **({"fail": fail} if fail else {})}
    steps = [{"key": "a", "tool": "test.note", "arguments": arguments}]
    return submit({"steps": steps, "concurrency_key": key, **more}, user=user(name), now=timezone.now())[0]


def holders(key: str = KEY) -> list[Job]:
    return list(Job.objects.filter(concurrency_key=key, holds_key=True).exclude(state__in=JOB_DONE))


def pass_on() -> int:
    return keys.pass_on_all(timezone.now())


def test_one_runs_and_the_others_wait_in_order():
    first, second, third = job(), job(), job()
    assert holders() == [first]
    assert set(Step.objects.exclude(job=first).values_list("state", flat=True)) == {"pending"}
    assert keys.holder(second) == first
    assert pass_on() == 0
    assert run_queued(first).state == JobState.SUCCEEDED
    assert pass_on() == 1
    assert holders() == [second]
    assert Record.objects.filter(event=str(Event.JOB_KEY_TAKEN), target_id=str(second.pk)).count() == 1
    assert run_queued(second).state == JobState.SUCCEEDED
    pass_on()
    assert holders() == [third]
    assert run_queued(third).state == JobState.SUCCEEDED
    assert holders() == []


def test_other_keys_and_no_key_wait_for_nobody():
    job()
    assert run_queued(job(key="deploy/test")).state == JobState.SUCCEEDED
    plain = submit({"steps": [{"key": "a", "tool": "test.note"}]}, user=user(), now=timezone.now())[0]
    assert run_queued(plain).state == JobState.SUCCEEDED


@pytest.mark.parametrize("how", ["failed", "refused", "cancelled"])
def test_the_key_goes_on_however_its_holder_ends(how: str):
    first, second = job(fail={"failed": "not_ok", "refused": "refuse"}.get(how, "")), job()
    if how == "cancelled":
        cancel_job(first.pk, by=Actor.user(first.owner_id), now=timezone.now())
    else:
        run_queued(first)
    first.refresh_from_db()
    assert first.state in JOB_DONE
    sweep(timezone.now())  # alone: no releaser has heard of it
    assert holders() == [second]
    assert run_queued(second).state == JobState.SUCCEEDED


def test_who_waits_can_be_cancelled_and_takes_no_place():
    first, second, third = job(), job(), job()
    cancel_job(second.pk, by=Actor.user(second.owner_id), now=timezone.now())
    second.refresh_from_db()
    assert second.state == JobState.CANCELLED
    run_queued(first)
    pass_on()
    assert holders() == [third]


def test_reject_says_who_has_the_key_and_writes_nothing():
    first = job()
    with pytest.raises(KeyBusy, match=str(first.pk)):
        job(on_conflict="reject")
    assert list(Job.objects.all()) == [first]
    run_queued(first)
    assert holders() == []
    assert job(on_conflict="reject").holds_key


def test_cancel_running_cancels_what_came_before_and_goes_next():
    first, second = job(), job()
    last = job(on_conflict="cancel_running")
    states = dict(Job.objects.values_list("pk", "state"))
    assert (states[first.pk], states[second.pk]) == (JobState.CANCELLED, JobState.CANCELLED)
    pass_on()
    assert holders() == [last]


def test_nobody_cancels_another_user_s_job_by_its_key():
    first = job("ada")
    job("eve", on_conflict="cancel_running")
    first.refresh_from_db()
    assert (first.state, holders()) == (JobState.QUEUED, [first])


def test_of_many_at_once_one_has_the_key_and_each_gets_it():
    user()
    assert side_by_side(*[partial(job)] * 8) == []
    assert len(holders()) == 1
    done = 0
    while holders():
        [one] = holders()
        assert run_queued(one).state == JobState.SUCCEEDED
        done += 1
        assert side_by_side(*[pass_on] * 4) == []
        assert len(holders()) <= 1
        pass_on()
    assert done == 8


def test_the_database_allows_one_holder():
    job()
    second = job()
    with pytest.raises(IntegrityError):
        Job.objects.filter(pk=second.pk).update(holds_key=True)


def test_a_job_does_not_wait_for_a_key_of_its_own_parents():
    parent = job()
    assert keys.own_key(KEY, parent) == ""
    assert keys.own_key("other", parent) == "other"
    assert keys.own_key(KEY, None) == KEY
