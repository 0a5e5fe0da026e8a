"""Outgoing webhooks: signed, retried, replayed, given up; and never to where they should not go."""

import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.db import transaction
from django.utils import timezone
from standardwebhooks import Webhook as Standard

from agents.engine.execute import Delivery, execute
from agents.engine.transitions import lock_job, move_job
from agents.errors import InvalidInput
from agents.models import TriggerEvent, WebhookAttempt, WebhookEndpoint, WebhookMessage
from agents.states import JobState
from agents.submit import submit
from agents.triggers import addresses, changes, delivery, outbox
from agents.triggers.errors import AddressRefused, TriggerOff
from audit.actor import Actor
from tests.factories import log
from tests.factories.people import user
from tests.integration.agents.api import step

NOW = timezone.now()
DATA = {"job": "1", "goal": "Grüße"}


class Receiver(ThreadingHTTPServer):
    """A real HTTP server: keeps what it got, answers as told."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.got, self.status, self.answer, self.headers = [], 200, b"thanks", {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/in?x=1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    do_GET = do_POST

    def log_message(self, *args):
        pass


@pytest.fixture
def receiver():
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(60)


def made(owner, receiver, **fields):
    given = {"name": "chat", "address": receiver.url if receiver else "https://example.com/", **fields}
    return changes.create(WebhookEndpoint, given, user=owner, now=NOW)


def queued(endpoint, event="job.finished"):
    return outbox.put(event, [endpoint], data=DATA, now=NOW)[0]


def sent(endpoint, after=timedelta(0)):
    return delivery.deliver(endpoint.pk, now=timezone.now() + after)


@pytest.mark.django_db
def test_a_message_is_signed_as_the_specification_says(ada, receiver):
    endpoint, secret = made(ada, receiver)
    message = queued(endpoint)
    assert sent(endpoint) == 1
    path, headers, body = receiver.got[0]
    assert path == "/in?x=1"
    told = Standard(secret).verify(body, headers)  # another's implementation; raises where it does not hold
    assert (told["type"], told["data"], told["timestamp"]) == ("job.finished", DATA, NOW.isoformat())
    assert headers["webhook-id"] == f"msg_{message.pk.hex}"
    message.refresh_from_db()
    assert (message.state, message.attempts) == ("sent", 1)
    attempt = WebhookAttempt.objects.get()
    assert (attempt.status, attempt.answer, attempt.error) == (200, "thanks", "")
    assert sent(endpoint) == 0


@pytest.mark.django_db
def test_a_failure_is_tried_again_later_with_the_same_id(ada, receiver):
    endpoint, _ = made(ada, receiver)
    message = queued(endpoint)
    receiver.status = 500
    assert sent(endpoint) == 0
    assert delivery.deliver(endpoint.pk, now=NOW) == 0  # not due yet
    message.refresh_from_db()
    assert (message.state, len(receiver.got)) == ("queued", 1)
    assert message.not_before - WebhookAttempt.objects.get().at >= timedelta(seconds=outbox.DELAYS_S[0])
    receiver.status = 200
    assert sent(endpoint, timedelta(seconds=10)) == 1
    assert receiver.got[0][1]["webhook-id"] == receiver.got[1][1]["webhook-id"]
    assert [one.status for one in WebhookAttempt.objects.all()] == [500, 200]
    endpoint.refresh_from_db()
    assert endpoint.failing_since is None


@pytest.mark.django_db
def test_retries_back_off_over_days_and_end(ada, receiver):
    endpoint, _ = made(ada, receiver)
    message = queued(endpoint)
    receiver.status = 503
    waits = []
    for _ in range(outbox.TRIES):
        WebhookEndpoint.objects.update(not_before=None)
        assert delivery.deliver(endpoint.pk, now=timezone.now() + timedelta(days=2)) == 0
        message.refresh_from_db()
        waits.append((message.not_before - timezone.now()).total_seconds())
    assert (message.state, message.attempts) == ("failed", outbox.TRIES)
    for waited, planned in zip(waits, outbox.DELAYS_S, strict=False):
        assert planned - 60 < waited <= planned * (1 + delivery.JITTER)
    assert sum(outbox.DELAYS_S) > 3 * 86_400


@pytest.mark.django_db
def test_a_redirect_is_not_followed_and_a_long_answer_is_cut(ada, receiver):
    endpoint, _ = made(ada, receiver)
    queued(endpoint)
    receiver.status, receiver.headers, receiver.answer = 302, {"Location": receiver.url}, b"\x00" + b"x" * 100_000
    assert sent(endpoint) == 0
    attempt = WebhookAttempt.objects.get()
    assert len(receiver.got) == 1
    assert "redirect" in attempt.error
    assert len(attempt.answer) == delivery.ANSWER_MAX_BYTES


@pytest.mark.django_db
def test_an_endpoint_that_fails_for_days_is_turned_off_with_the_reason(ada, receiver):
    endpoint, _ = made(ada, receiver)
    message = queued(endpoint)
    receiver.status = 500
    WebhookEndpoint.objects.update(failing_since=timezone.now() - delivery.DISABLE_AFTER)
    sent(endpoint)
    endpoint.refresh_from_db()
    message.refresh_from_db()
    assert not endpoint.enabled
    assert "3 days" in endpoint.disabled_reason and "500" in endpoint.disabled_reason
    assert message.state == "failed"
    assert ("trigger.changed", "disabled") in log.events(endpoint.pk)
    with pytest.raises(TriggerOff):
        delivery.replay(message, by=Actor.user(ada.pk), now=NOW)
    changes.change(endpoint, {"enabled": True}, by=ada, now=NOW)
    receiver.status = 200
    delivery.replay(message, by=Actor.user(ada.pk), now=NOW)
    assert sent(endpoint) == 1
    message.refresh_from_db()
    assert (message.state, message.attempts) == ("sent", 2)
    assert ("webhook.replayed", "ok") in log.events(message.pk)


@pytest.mark.django_db
def test_who_answers_410_gets_no_more(ada, receiver):
    endpoint, _ = made(ada, receiver)
    queued(endpoint)
    receiver.status = 410
    sent(endpoint)
    endpoint.refresh_from_db()
    assert not endpoint.enabled and "410" in endpoint.disabled_reason


@pytest.mark.django_db
def test_one_worker_at_a_time_posts_to_an_endpoint(ada, receiver):
    endpoint, _ = made(ada, receiver)
    queued(endpoint)
    WebhookEndpoint.objects.update(not_before=timezone.now() + timedelta(seconds=50))
    assert sent(endpoint) == 0
    assert not receiver.got


@pytest.mark.django_db
def test_ends_of_jobs_are_told_to_their_owners_endpoints_that_want_them(ada, receiver):
    made(ada, receiver)
    made(ada, receiver, name="failures", events=["job.failed"])
    made(user("eve"), receiver, name="eve")
    for state in (JobState.FAILED, JobState.CANCELLED):
        job, _ = submit({"steps": [step()], "labels": {"commit": "abc"}}, user=ada, now=NOW)
        with transaction.atomic():
            move_job(lock_job(job.pk), state, now=NOW)
    rows = WebhookMessage.objects.order_by("id").values_list("endpoint__name", "event")
    assert sorted(rows) == [
        ("chat", "job.failed"),
        ("chat", "job.finished"),
        ("chat", "job.finished"),
        ("failures", "job.failed"),
    ]
    data = json.loads(WebhookMessage.objects.filter(event="job.failed")[0].body)["data"]
    assert (data["state"], data["labels"]) == ("failed", {"commit": "abc"})


@pytest.mark.django_db
def test_a_message_stands_or_falls_with_what_it_tells(ada, receiver):
    made(ada, receiver)
    job, _ = submit({"steps": [step()]}, user=ada, now=NOW)
    with pytest.raises(RuntimeError), transaction.atomic():
        move_job(lock_job(job.pk), JobState.FAILED, now=NOW)
        raise RuntimeError
    assert not WebhookMessage.objects.exists()


@pytest.mark.django_db
def test_the_sweeper_finds_messages_whose_task_was_lost(ada, receiver):
    endpoint, _ = made(ada, receiver)
    queued(endpoint)
    assert outbox.publish_due(NOW + timedelta(seconds=10)) == 0
    assert outbox.publish_due(NOW + timedelta(seconds=31)) == 1
    assert outbox.publish_due(NOW + timedelta(seconds=32)) == 0


@pytest.mark.django_db
@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
        *("[::1]", "[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]"),
        *("localhost", "2130706433", "0x7f.1"),
    ],
)
def test_private_addresses_are_refused_when_we_post(settings, host):
    settings.ALLOW_LOCAL_WEBHOOKS = False
    with pytest.raises((AddressRefused, OSError)):
        addresses.resolve(f"https://{host}/x")


def test_public_addresses_are_not():
    import ipaddress

    addresses.refuse_local("x", [ipaddress.ip_address("93.184.215.14"), ipaddress.ip_address("2606:2800:21f::1")])


@pytest.mark.django_db
def test_a_refused_address_is_a_failed_try_that_says_so(ada, receiver, settings):
    endpoint, _ = made(ada, receiver)
    WebhookEndpoint.objects.update(address=f"https://127.0.0.1:{receiver.server_port}/")
    queued(endpoint)
    settings.ALLOW_LOCAL_WEBHOOKS = False
    assert sent(endpoint) == 0
    assert "not on the public internet" in WebhookAttempt.objects.get().error
    assert not receiver.got


@pytest.mark.django_db
@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "ftp://example.com/", "https://", "https://u:p@example.com/", "nonsense"),
        *("https://example.com:99999/", "https://example.com/#x", "https://exämple.com/", "https://a b/"),
    ],
)
def test_what_is_no_https_address_is_refused(ada, settings, url):
    settings.ALLOW_LOCAL_WEBHOOKS = False
    with pytest.raises(InvalidInput) as caught:
        made(ada, None, address=url)
    assert caught.value.field == "address"


@pytest.mark.django_db
def test_unknown_events_are_refused(ada):
    with pytest.raises(InvalidInput) as caught:
        made(ada, None, events=["job.finished", "job.dreamt"])
    assert caught.value.field == "events[1]"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("listens", [True, False])
def test_a_job_that_runs_to_its_end_is_told_of_whichever_way_its_end_is_written(ada, receiver, listens):
    """The engine's short way ends most jobs, and leaves those that somebody listens to for the general one."""
    if listens:
        made(ada, receiver)
    job, _ = submit({"steps": [step()]}, user=ada, now=timezone.now())
    queued_step = job.steps.get()
    execute(queued_step.pk, queued_step.attempt, Delivery(queue=queued_step.queue, worker="shell@test", task_id="t"))
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED
    told = [("job.finished", "succeeded")] if listens else []
    assert [(one.event, json.loads(one.body)["data"]["state"]) for one in WebhookMessage.objects.all()] == told
    assert list(TriggerEvent.objects.values_list("name", flat=True)) == (["job.succeeded"] if listens else [])
