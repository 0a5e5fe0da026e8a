"""Event rules: A and B for the same key within a window start C, once."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from agents.engine.transitions import lock_job, move_job
from agents.errors import InvalidInput
from agents.models import EventMatch, EventRule, Job, TriggerEvent, TriggerRun
from agents.states import JobState
from agents.submit import submit
from agents.triggers import changes, rules, runs
from agents.triggers.emit import emit
from tests.factories.people import user
from tests.integration.agents.api import step

PAYLOAD = {"title": "Deploy ${{ key }}", "steps": [step(arguments={"text": "${{ events[0].data.n }}"})]}


def made(owner, **fields):
    given = {
        "name": "deploy",
        "events": [{"name": "build.done", "when": "event.data.ok"}, {"name": "review.done"}],
        "window_s": 3600,
        "payload": PAYLOAD,
        **fields,
    }
    return changes.create(EventRule, given, user=owner, now=timezone.now())[0]


def happened(owner, name, key="c1", at=None, **data):
    return emit(name, owner_id=owner.pk, key=key, source="test", data={"ok": True, "n": "1", **data}, now=at or NOW)


def swept(at=None):
    rules.match_new(at or NOW)
    return runs.start_due(at or NOW)


NOW = timezone.now()


@pytest.mark.django_db
def test_both_for_the_same_key_start_one_job(ada):
    rule = made(ada)
    happened(ada, "build.done", n="42")
    assert swept() == 0
    happened(ada, "review.done", key="c2")
    assert swept() == 0
    happened(ada, "review.done")
    assert swept() == 1
    assert swept() == 0
    job = Job.objects.get()
    assert (job.trigger, job.goal, job.owner) == ("rule:deploy", "Deploy c1", ada)
    assert job.steps.get().arguments == {"text": "42"}
    assert TriggerRun.objects.get().rule == rule


@pytest.mark.django_db
def test_a_used_event_does_not_count_again(ada):
    made(ada)
    happened(ada, "build.done")
    happened(ada, "review.done")
    assert swept() == 1
    happened(ada, "review.done")
    assert swept() == 0
    happened(ada, "build.done")
    assert swept() == 1


@pytest.mark.django_db
def test_outside_the_window_nothing_starts_and_partial_matches_are_cleaned(ada):
    made(ada)
    happened(ada, "build.done")
    swept()
    later = NOW + timedelta(seconds=3601)
    happened(ada, "review.done", at=later)
    assert swept(later) == 0
    assert EventMatch.objects.count() == 2
    rules.clean(later)
    assert [match.event.name for match in EventMatch.objects.all()] == ["review.done"]


@pytest.mark.django_db
def test_what_does_not_pass_its_filter_does_not_count(ada):
    made(ada)
    happened(ada, "build.done", ok=False)
    happened(ada, "build.done", ok="not even a boolean")
    happened(ada, "review.done")
    assert swept() == 0
    happened(ada, "build.done")
    assert swept() == 1


@pytest.mark.django_db
def test_the_key_may_be_computed(ada):
    made(ada, correlation="event.data.sha")
    happened(ada, "build.done", key="x", sha="s1")
    happened(ada, "review.done", key="y", sha="s1")
    happened(ada, "review.done", key="x")
    assert swept() == 1
    assert Job.objects.get().goal == "Deploy s1"


@pytest.mark.django_db
def test_events_of_others_do_not_count(ada):
    made(ada)
    happened(ada, "build.done")
    happened(user("eve"), "review.done")
    assert swept() == 0
    assert not TriggerEvent.objects.filter(handled_at__isnull=True).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keys", [["c1"], ["c1", "c2", "c3"]])
def test_events_that_complete_a_rule_at_once_start_it_once(ada, keys):
    made(ada)
    for key in keys:
        happened(ada, "build.done", key=key)
        happened(ada, "review.done", key=key)
    ids = list(TriggerEvent.objects.values_list("pk", flat=True))
    together, failures = threading.Barrier(2), []

    def work(mine):
        try:
            together.wait(60)
            for event_id in mine:
                rules.handle(event_id, now=NOW)
            runs.start_due(NOW)
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    # each half of every pair in another connection, in the same order
    threads = [threading.Thread(target=work, args=(ids[half::2],)) for half in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    swept()
    assert sorted(Job.objects.values_list("goal", flat=True)) == [f"Deploy {key}" for key in keys]


@pytest.mark.django_db
def test_the_end_of_a_job_is_an_event_with_its_commit_as_key(ada):
    made(ada, events=[{"name": "job.*", "when": "event.data.labels.kind == 'ci'"}], payload={"steps": [step()]})
    for kind in ("ci", "other"):
        job, _ = submit({"steps": [step()], "labels": {"commit": "abc", "kind": kind}}, user=ada, now=NOW)
        with transaction.atomic():
            move_job(lock_job(job.pk), JobState.CANCELLED, now=NOW)
    event = TriggerEvent.objects.filter(source=f"job:{job.pk}").get()
    assert (event.name, event.key, event.data["state"]) == ("job.cancelled", "abc", "cancelled")
    assert swept() == 1
    started = Job.objects.get(trigger="rule:deploy")
    with transaction.atomic():
        move_job(lock_job(started.pk), JobState.FAILED, now=NOW)
    assert swept() == 0  # its own job does not set it off again


@pytest.mark.django_db
def test_a_rule_that_starts_too_much_stops(ada, monkeypatch):
    monkeypatch.setattr(rules, "STARTS_MAX", 2)
    made(ada, events=[{"name": "ping"}], payload={"steps": [step()]})
    for _ in range(4):
        happened(ada, "ping")
    assert swept() == 2
    assert TriggerRun.objects.filter(state="skipped", code="too_many").count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"events": []}, "events"),
        ({"events": [{"name": "a"}, {"name": "b", "when": "body.x"}]}, "events[1].when"),
        ({"events": [{"name": "A B"}]}, "events[0].name"),
        ({"correlation": "event."}, "correlation"),
        ({"window_s": 0}, "window_s"),
        ({"payload": {"goal": "${{ body.x }}"}}, "payload.goal"),
    ],
)
def test_bad_input_names_its_field(ada, fields, field):
    with pytest.raises(InvalidInput) as caught:
        made(ada, **fields)
    assert field in [name for name, _ in caught.value.problems]
