"""Schedules: each time once, whoever looks; what was missed; what overlaps; what never fires."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from agents.engine.transitions import lock_job, move_job
from agents.errors import InvalidInput
from agents.models import Agent, Job, Schedule, TriggerRun
from agents.states import JobState
from agents.triggers import changes, runs, schedules
from tests.factories import log
from tests.integration.agents.api import agent, step

PAYLOAD = {"steps": [step("a")], "title": "Nightly ${{ schedule.due_at }}"}
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def made(owner, *, at=AT, **fields):
    given = {"name": "nightly", "cron": "*/10 * * * *", "payload": PAYLOAD, **fields}
    return changes.create(Schedule, given, user=owner, now=at)[0]


def swept(at):
    schedules.fire_due(at)
    return runs.start_due(at)


def states(schedule):
    return list(TriggerRun.objects.filter(schedule=schedule).order_by("due_at").values_list("state", flat=True))


@pytest.mark.django_db
def test_each_time_starts_one_job_of_its_owner(ada):
    schedule = made(ada)
    assert schedule.next_due_at == AT + timedelta(minutes=10)
    assert swept(AT + timedelta(minutes=9)) == 0
    assert swept(AT + timedelta(minutes=10)) == 1
    assert swept(AT + timedelta(minutes=10, seconds=5)) == 0
    job = Job.objects.get()
    assert (job.owner, job.trigger) == (ada, "schedule:nightly")
    assert job.goal == "Nightly 2026-03-01T12:10:00+00:00"
    run = TriggerRun.objects.get()
    assert (run.state, run.job, run.due_at) == ("started", job, AT + timedelta(minutes=10))
    schedule.refresh_from_db()
    assert schedule.next_due_at == AT + timedelta(minutes=20)


@pytest.mark.django_db(transaction=True)
def test_two_sweepers_at_once_start_each_time_once(ada):
    schedule = made(ada, overlap="allow", catch_up="all")
    at = AT + timedelta(minutes=41)
    together = threading.Barrier(2)

    def sweep():
        try:
            together.wait(60)
            for _ in range(3):
                swept(at)
        finally:
            connection.close()

    threads = [threading.Thread(target=sweep) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    swept(at)
    assert states(schedule) == ["started"] * 4
    assert Job.objects.count() == 4


@pytest.mark.django_db
def test_a_sweeper_that_dies_between_run_and_job_loses_nothing(ada):
    made(ada)
    schedules.fire_due(AT + timedelta(minutes=10))
    assert not Job.objects.exists()
    assert runs.start_due(AT + timedelta(minutes=11)) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("policy", "expected"),
    [("skip", ["skipped"]), ("last", ["skipped", "started"]), ("all", ["started"] * 6)],
)
def test_what_was_missed_is_made_up_for_as_the_schedule_says(ada, policy, expected):
    schedule = made(ada, catch_up=policy, overlap="allow")
    swept(AT + timedelta(minutes=65))
    assert states(schedule) == expected
    schedule.refresh_from_db()
    assert schedule.next_due_at == AT + timedelta(minutes=70)


@pytest.mark.django_db
def test_catching_up_is_bounded(ada):
    schedule = made(ada, catch_up="all", overlap="allow", interval_s=10, cron="", payload={"steps": [step()]})
    schedules.fire_due(AT + timedelta(hours=1))
    assert TriggerRun.objects.filter(schedule=schedule, state="due").count() == schedules.CATCH_UP_MAX
    assert "260 times" in TriggerRun.objects.get(schedule=schedule, state="skipped").reason


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("policy", "at_first", "at_last"),
    [
        ("allow", ["started", "started"], ["started", "started"]),
        ("skip", ["started", "skipped"], ["started", "skipped"]),
        ("queue", ["started", "due"], ["started", "started"]),
    ],
)
def test_overlap(ada, policy, at_first, at_last):
    schedule = made(ada, overlap=policy)
    swept(AT + timedelta(minutes=10))
    swept(AT + timedelta(minutes=20))
    assert states(schedule) == at_first
    with transaction.atomic():
        move_job(lock_job(Job.objects.order_by("pk")[0].pk), JobState.CANCELLED, now=timezone.now())
    swept(AT + timedelta(minutes=21))
    assert states(schedule) == at_last


@pytest.mark.django_db
def test_a_paused_schedule_does_not_fire_and_forgets_what_it_missed(ada):
    schedule = made(ada)
    changes.change(schedule, {"enabled": False}, by=ada, now=AT)
    assert swept(AT + timedelta(hours=1)) == 0
    changes.change(schedule, {"enabled": True}, by=ada, now=AT + timedelta(hours=1))
    assert swept(AT + timedelta(hours=1, minutes=1)) == 0
    assert swept(AT + timedelta(hours=1, minutes=10)) == 1


@pytest.mark.django_db
def test_a_job_that_cannot_be_submitted_fails_its_run_and_not_the_others(ada):
    agent("vanishing")
    broken, good = made(ada, name="broken", payload={"goal": "x", "agent": "vanishing"}), made(ada)
    Agent.objects.update(enabled=False)
    swept(AT + timedelta(minutes=10))
    assert states(broken) == ["failed"]
    assert TriggerRun.objects.get(schedule=broken).code == "unknown_agent"
    assert states(good) == ["started"]


@pytest.mark.django_db
def test_an_owner_who_left_starts_nothing(ada):
    schedule = made(ada)
    ada.is_active = False
    ada.save()
    swept(AT + timedelta(minutes=10))
    assert TriggerRun.objects.get(schedule=schedule).code == "owner_inactive"
    assert not Job.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "0 0 31 4,6 *"}, "cron"),
        ({"cron": "every day"}, "cron"),
        ({"cron": "* * * *"}, "cron"),
        ({"cron": ""}, "cron"),
        ({"cron": "* * * * *", "interval_s": 60}, "cron"),
        ({"cron": "", "interval_s": 1}, "interval_s"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "../etc/passwd"}, "time_zone"),
        ({"name": "a b"}, "name"),
        ({"overlap": "never"}, "overlap"),
        ({"payload": {"steps": [step(tool="no.tool")]}}, "payload.steps[0].tool"),
        ({"payload": {"steps": [step(arguments={"text": "${{ body.x }}"})]}}, "payload.steps[0].arguments.text"),
        ({"payload": {"steps": [step(arguments={"text": "${{ schedule. }}"})]}}, "payload.steps[0].arguments.text"),
        ({"payload": {"steps": [step()], "title": "${{ schedule.nope }}"}}, "payload.title"),
        ({"payload": {"steps": [step()], "title": "${{ schedule.name"}}, "payload.title"),
        ({"payload": {"steps": [step()], "repository": "${{ schedule.name }}"}}, "payload.repository"),
        ({"payload": {"steps": [step(tool="${{ schedule.name }}")]}}, "payload.steps[0].tool"),
        ({"payload": {}}, "payload.goal"),
    ],
)
def test_bad_input_names_its_field(ada, fields, field):
    with pytest.raises(InvalidInput) as caught:
        made(ada, **fields)
    assert field in [name for name, _ in caught.value.problems]
    assert not Schedule.objects.exists()


@pytest.mark.django_db
def test_a_name_is_taken_once(ada):
    made(ada)
    with pytest.raises(InvalidInput, match="taken") as caught:
        made(ada)
    assert caught.value.field == "name"


@pytest.mark.django_db
def test_changes_and_starts_are_recorded(ada):
    schedule = made(ada)
    changes.change(schedule, {"cron": "0 * * * *"}, by=ada, now=AT)
    swept(AT + timedelta(hours=1))
    pk = schedule.pk
    changes.remove(schedule, by=ada)
    assert log.events(pk) == [
        ("trigger.changed", "ok"),
        ("trigger.changed", "ok"),
        ("trigger.fired", "started"),
        ("trigger.changed", "ok"),
    ]
