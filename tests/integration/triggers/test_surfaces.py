"""The API, the back office and the page of triggers."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from agents.models import EventRule, Schedule, TriggerEvent, TriggerRun, Webhook, WebhookEndpoint, WebhookMessage
from agents.tokens import create_token
from agents.triggers import changes, delivery, outbox, runs, schedules
from audit.actor import Actor
from tests.factories import log
from tests.factories.people import user
from tests.integration.agents.api import client, problem, step
from tests.integration.agents.web import signed_in

API = "/api/v1"
PAYLOAD = {"steps": [step()]}
MADE = {
    "schedules": {"name": "nightly", "cron": "0 3 * * *", "time_zone": "Europe/Berlin", "payload": PAYLOAD},
    "webhooks": {"name": "ci", "payload": PAYLOAD},
    "event-rules": {"name": "both", "events": [{"name": "a"}, {"name": "b"}], "payload": PAYLOAD},
    "webhook-endpoints": {"name": "chat", "address": "https://example.com/hook", "events": ["job.failed"]},
}
CHANGED = {
    "schedules": {"cron": "0 4 * * *"},
    "webhooks": {"condition": "body.x"},
    "event-rules": {"window_s": 60},
    "webhook-endpoints": {"events": []},
}
WRONG = {
    "schedules": ({"cron": "0 0 30 2 *"}, "cron"),
    "webhooks": ({"condition": "x"}, "condition"),
    "event-rules": ({"window_s": -1}, "window_s"),
    "webhook-endpoints": ({"address": "gopher://x"}, "address"),
}


@pytest.mark.django_db
@pytest.mark.parametrize("kind", MADE)
def test_each_kind_is_made_listed_changed_and_removed_by_its_owner_alone(ada, kind):
    mine, other = client(ada), client(user("eve"))
    answer = mine.post(f"{API}/{kind}", MADE[kind])
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert answer["Location"] == made["url"]
    assert made["owner"] == "ada"
    assert ("secret" in made) == (kind in {"webhooks", "webhook-endpoints"})
    listed = mine.get(f"{API}/{kind}").json()["results"]
    assert [one["name"] for one in listed] == [MADE[kind]["name"]]
    assert "secret" not in listed[0]
    one = f"{API}/{kind}/{made['id']}"
    assert other.get(f"{API}/{kind}").json()["results"] == []
    for forbidden in (other.get(one), other.patch(one, CHANGED[kind]), other.delete(one)):
        problem(forbidden, 404, "not_found")
    changed = mine.patch(one, CHANGED[kind])
    assert changed.status_code == 200
    assert {name: changed.json()[name] for name in CHANGED[kind]} == CHANGED[kind]
    wrong, field = WRONG[kind]
    problem(mine.patch(one, wrong), 400, "invalid_input", field)
    problem(mine.post(f"{API}/{kind}", {**MADE[kind], **wrong}), 400, "invalid_input", field)
    problem(mine.post(f"{API}/{kind}", MADE[kind]), 400, "invalid_input", "name")
    problem(mine.post(f"{API}/{kind}", {"nonsense": 1, "name": "x"}), 400, "invalid_input", *_missing(kind))
    assert mine.delete(one).status_code == 204
    problem(mine.get(one), 404, "not_found")
    assert [event for event, _ in log.events(made["id"])] == ["trigger.changed"] * 3


def _missing(kind):
    return {
        "schedules": ("payload", "nonsense"),
        "webhooks": ("nonsense",),
        "event-rules": ("events", "payload", "nonsense"),
        "webhook-endpoints": ("address", "nonsense"),
    }[kind]


@pytest.mark.django_db
def test_a_schedule_tells_its_next_times_and_can_be_run_now(ada):
    made = client(ada).post(f"{API}/schedules", MADE["schedules"]).json()
    assert len(made["next_runs"]) == 5
    assert made["next_runs"][0] == made["next_due_at"].replace("Z", "+00:00")
    answer = client(ada).post(f"{API}/schedules/{made['id']}/runs")
    assert (answer.status_code, answer.json()["state"]) == (202, "due")
    runs.start_due(timezone.now())
    (run,) = client(ada).get(f"{API}/schedules/{made['id']}/runs").json()["results"]
    assert run["state"] == "started" and run["job"]
    client(ada).patch(f"{API}/schedules/{made['id']}", {"enabled": False})
    problem(client(ada).post(f"{API}/schedules/{made['id']}/runs"), 409, "trigger_off")


@pytest.mark.django_db
def test_tokens_need_their_scopes(ada):
    def asks(scopes):
        _, secret = create_token(user=ada, name="t", scopes=scopes, now=timezone.now(), actor=Actor.user(ada.pk))
        asking = client()
        asking.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
        return asking

    event = {"name": "build.done", "key": "abc"}
    problem(asks(["jobs:write"]).post(f"{API}/events", event), 403, "scope_missing")
    sent = asks(["events:write"]).post(f"{API}/events", event)
    assert (sent.status_code, TriggerEvent.objects.get().key) == (202, "abc")
    problem(asks(["events:write"]).get(f"{API}/schedules"), 403, "scope_missing")
    problem(asks(["triggers:read"]).post(f"{API}/schedules", MADE["schedules"]), 403, "scope_missing")
    assert asks(["triggers:write"]).post(f"{API}/schedules", MADE["schedules"]).status_code == 201
    problem(client().get(f"{API}/schedules"), 401, "not_authenticated")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"name": "A b"}, "name"),
        ({"name": "a", "key": "x" * 201}, "key"),
        ({"name": "a", "data": {"x": "\x00"}}, "data.x"),
        ({"name": "a", "data": {"x": "y" * 70_000}}, "data"),
    ],
)
def test_bad_events_name_their_field(ada, event, field):
    problem(client(ada).post(f"{API}/events", event), 400, "invalid_input", field)


@pytest.mark.django_db
def test_a_message_is_listed_with_its_tries_and_sent_again(ada, monkeypatch):
    made = client(ada).post(f"{API}/webhook-endpoints", MADE["webhook-endpoints"]).json()
    sent = client(ada).post(f"{API}/webhook-endpoints/{made['id']}/messages")
    assert (sent.status_code, sent.json()["event"]) == (202, "endpoint.test")
    WebhookMessage.objects.update(state="failed", tries_left=0)
    replay = f"{API}/webhook-messages/{sent.json()['id']}/replay"
    problem(client(user("eve")).post(replay), 404, "not_found")
    assert client(ada).post(replay).json()["state"] == "queued"
    assert WebhookMessage.objects.get().tries_left == outbox.TRIES
    (listed,) = client(ada).get(f"{API}/webhook-endpoints/{made['id']}/messages").json()["results"]
    assert listed["attempts"] == []
    rotated = client(ada).post(f"{API}/webhook-endpoints/{made['id']}/secret").json()["secret"]
    assert rotated.startswith("whsec_") and rotated != made["secret"]


@pytest.fixture
def root():
    return user("root", is_staff=True, is_superuser=True)


@pytest.mark.django_db
def test_the_back_office_makes_shows_and_refuses_as_the_api_does(ada, root):
    browser = signed_in(root)
    sent = {
        "name": "nightly", "enabled": "on", "cron": "0 0 30 2 *", "time_zone": "UTC", "interval_s": "",
        "payload": json.dumps(PAYLOAD), "catch_up": "last", "overlap": "skip",
    }  # fmt: skip
    page = browser.post("/admin/agents/schedule/add/", sent)
    assert page.status_code == 200 and "it would never fire" in page.content.decode()
    assert browser.post("/admin/agents/schedule/add/", {**sent, "cron": "0 3 * * *"}).status_code == 302
    made = Schedule.objects.get()
    assert (made.owner, made.next_due_at is not None) == (root, True)
    assert ("trigger.changed", "ok") in log.events(made.pk)
    hook = {"name": "ci", "enabled": "on", "scheme": "standard", "event": "ci.done", "tolerance_s": "300",
            "rate_per_minute": "60", "payload": "null", "condition": "", "event_key": ""}  # fmt: skip
    shown = browser.post("/admin/agents/webhook/add/", hook).content.decode()
    assert "whsec_" in shown and "/hooks/ci/" in shown
    endpoint = {"name": "chat", "address": "https://example.com/", "events": "[]", "enabled": "on"}
    assert "whsec_" in browser.post("/admin/agents/webhookendpoint/add/", endpoint).content.decode()
    rule = {"name": "both", "enabled": "on", "events": '[{"name": "a"}]', "correlation": "", "window_s": "60",
            "payload": json.dumps(PAYLOAD)}  # fmt: skip
    assert browser.post("/admin/agents/eventrule/add/", rule).status_code == 302
    schedules.run_now(made, by=Actor.user(root.pk), now=timezone.now())
    outbox.put("job.failed", [WebhookEndpoint.objects.get()], data={}, now=timezone.now())
    for model in ("schedule", "webhook", "eventrule", "webhookendpoint", "triggerrun", "triggerevent",
                  "webhookdelivery", "webhookmessage"):  # fmt: skip
        assert browser.get(f"/admin/agents/{model}/").status_code == 200
    for row in (made, Webhook.objects.get(), EventRule.objects.get(), WebhookEndpoint.objects.get(),
                TriggerRun.objects.get(), WebhookMessage.objects.get()):  # fmt: skip
        page = browser.get(f"/admin/agents/{row._meta.model_name}/{row.pk}/change/")
        assert page.status_code == 200
        assert "whsec_" not in page.content.decode().replace(getattr(row, "secret_hint", "") or "-", "")


@pytest.mark.django_db
def test_staff_do_not_change_what_acts_as_somebody_else(ada):
    from django.contrib.auth.models import Permission

    made, _ = changes.create(Schedule, MADE["schedules"], user=ada, now=timezone.now())
    helper = user("helper", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(content_type__app_label="agents"))
    browser = signed_in(helper)
    assert browser.get(f"/admin/agents/schedule/{made.pk}/change/").status_code == 302  # as if it were not there
    browser.post(f"/admin/agents/schedule/{made.pk}/delete/", {"post": "yes"})
    assert Schedule.objects.filter(pk=made.pk).exists()


@pytest.mark.django_db
def test_the_page_shows_what_starts_jobs_and_what_was_started(ada):
    now = timezone.now()
    browser = signed_in(ada)
    assert "No schedules yet" in browser.get("/triggers/").content.decode()
    schedule, _ = changes.create(Schedule, {**MADE["schedules"], "cron": "*/30 * * * *"}, user=ada, now=now)
    changes.create(Webhook, MADE["webhooks"], user=ada, now=now)
    changes.create(EventRule, MADE["event-rules"], user=ada, now=now)
    endpoint, _ = changes.create(WebhookEndpoint, MADE["webhook-endpoints"], user=ada, now=now)
    delivery.send_test(endpoint, now=now)
    later = now + timedelta(minutes=31)
    schedules.fire_due(later)
    runs.start_due(later)
    page = browser.get("/triggers/").content.decode()
    for expected in ("nightly: 48 times", "POST /hooks/ci/", "both", "endpoint.test", "*/30 * * * *"):
        assert expected in page
    assert page.count('class="mark"') == 48
    job = TriggerRun.objects.get(state="started").job
    assert f'href="/jobs/{job.pk}/"' in page
    assert schedule.name not in signed_in(user("eve")).get("/triggers/").content.decode()
