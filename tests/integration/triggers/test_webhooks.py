"""Incoming webhooks: who is heard, what a delivery may fill in, and that each counts once."""

import hashlib
import hmac
import json
import threading
import time
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from standardwebhooks import Webhook as Standard

from agents.engine import expressions
from agents.models import Job, TriggerEvent, Webhook, WebhookDelivery
from agents.triggers import changes
from approvals import rates
from tests.integration.agents.api import problem, step

URL = "/hooks/ci/"
PAYLOAD = {
    "title": "CI of ${{ after(body.ref, 'refs/heads/') }}",
    "labels": {"commit": "${{ body.commit }}"},
    "steps": [step(arguments={"text": "${{ body.commit }} by ${{ headers['x-by'] }}"})],
}
BODY = {"ref": "refs/heads/main", "commit": "abc123", "status": "failed"}


@pytest.fixture(autouse=True)
def _counts_begin_anew():
    for counted in list(rates.client().scan_iter("countersign:rate:hook*")):
        rates.client().delete(counted)


def made(owner, *, secret=None, **fields):
    given = {"name": "ci", "payload": PAYLOAD, **fields}
    return changes.create(Webhook, given, user=owner, now=timezone.now(), secret=secret)


def standard(secret, body, *, message_id="msg_1", at=None):
    at = at or datetime.now(UTC)
    text = body if isinstance(body, str) else json.dumps(body)
    return text, {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Standard(secret).sign(message_id, at, text),
        "x-by": "ada",
    }


def post(text, headers, url=URL, content_type="application/json"):
    return Client(enforce_csrf_checks=True).post(url, text, content_type=content_type, headers=headers)


@pytest.mark.django_db
def test_a_signed_delivery_starts_a_job_of_the_hooks_owner(ada):
    _, secret = made(ada)
    response = post(*standard(secret, BODY))
    assert response.status_code == 202, response.content
    job = Job.objects.get()
    assert response.json()["job"] == str(job.pk)
    assert (job.owner, job.trigger, job.goal) == (ada, "webhook:ci", "CI of main")
    assert job.labels == {"commit": "abc123"}
    assert job.steps.get().arguments == {"text": "abc123 by ada"}
    delivery = WebhookDelivery.objects.get()
    assert (delivery.outcome, delivery.delivery_id, delivery.job) == ("started", "msg_1", job)


@pytest.mark.django_db
def test_a_delivery_counts_once(ada):
    _, secret = made(ada)
    sent = standard(secret, BODY)
    assert post(*sent).status_code == 202
    problem(post(*sent), 409, "delivery_replayed")
    assert Job.objects.count() == 1
    assert list(WebhookDelivery.objects.order_by("id").values_list("outcome", "code")) == [
        ("started", ""),
        ("refused", "delivery_replayed"),
    ]


@pytest.mark.django_db(transaction=True)
def test_of_the_same_delivery_at_once_one_is_taken(ada):
    _, secret = made(ada)
    sent, answers = standard(secret, BODY), []
    together = threading.Barrier(4)

    def one():
        try:
            together.wait(60)
            answers.append(post(*sent).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == [202, 409, 409, 409]
    assert Job.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"webhook-signature": "v1,AAAA"}, 401, "signature_invalid"),
        ({"webhook-signature": "v1a,é"}, 401, "signature_invalid"),
        ({"webhook-id": "msg_2"}, 401, "signature_invalid"),
        ({"webhook-timestamp": "1"}, 401, "signature_invalid"),
        ({"webhook-timestamp": "soon"}, 400, "delivery_malformed"),
        ({"webhook-signature": ""}, 400, "delivery_malformed"),
    ],
)
def test_what_does_not_know_the_secret_starts_nothing(ada, change, status, code):
    _, secret = made(ada)
    text, headers = standard(secret, BODY)
    problem(post(text, {**headers, **change}), status, code)
    assert not Job.objects.exists()
    assert WebhookDelivery.objects.get().code == code


@pytest.mark.django_db
def test_a_changed_body_is_refused(ada):
    _, secret = made(ada)
    text, headers = standard(secret, BODY)
    problem(post(text.replace("abc123", "def456"), headers), 401, "signature_invalid")


@pytest.mark.django_db
@pytest.mark.parametrize("off_s", [-400, 400])
def test_an_old_or_early_delivery_is_refused(ada, off_s):
    _, secret = made(ada)
    sent = standard(secret, BODY, at=datetime.fromtimestamp(time.time() + off_s, UTC))
    problem(post(*sent), 401, "delivery_stale")


@pytest.mark.django_db
def test_a_filtered_delivery_starts_nothing_and_says_so(ada):
    _, secret = made(ada, condition="body.status == 'failed' && !has(body.skip)")
    answer = post(*standard(secret, {**BODY, "status": "passed"}, message_id="a")).json()
    assert (answer["outcome"], answer["job"]) == ("filtered", None)
    assert post(*standard(secret, BODY, message_id="b")).json()["outcome"] == "started"
    assert Job.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", "delivery_malformed"),
        ('{"a": NaN}', "delivery_malformed"),
        ('{"ref": "\\u0000", "commit": "x"}', "delivery_malformed"),
        ("[" * 5000 + "]" * 5000, "delivery_malformed"),
        ('{"ref": "refs/heads/main"}', "delivery_unusable"),
        ('{"ref": 5, "commit": "x"}', "delivery_unusable"),
        ('{"ref": "refs/heads/main", "commit": "' + "x" * 300 + '"}', "delivery_unusable"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_whole_and_may_come_again(ada, body, code):
    _, secret = made(ada)
    problem(post(*standard(secret, body)), 400, code)
    assert not Job.objects.exists()
    assert post(*standard(secret, BODY)).status_code == 202  # the same id


@pytest.mark.django_db
def test_other_content_types_and_too_large_bodies_are_refused(ada, settings):
    _, secret = made(ada)
    sent = standard(secret, BODY)
    problem(post(*sent, content_type="application/x-www-form-urlencoded"), 400, "delivery_malformed")
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 50
    problem(post(*sent), 413, "body_too_large")


@pytest.mark.django_db
def test_unknown_and_paused_webhooks_are_not_there(ada):
    hook, secret = made(ada)
    problem(post("{}", {}, url="/hooks/other/"), 404, "not_found")
    changes.change(hook, {"enabled": False}, by=ada, now=timezone.now())
    problem(post(*standard(secret, BODY)), 404, "not_found")
    assert Client().get(URL).status_code == 405


@pytest.mark.django_db
def test_deliveries_are_rate_limited(ada):
    _, secret = made(ada, rate_per_minute=2)
    answers = [post(*standard(secret, BODY, message_id=f"m{n}")) for n in range(5)]
    assert [one.status_code for one in answers] == [202, 202, 429, 429, 429]
    assert int(answers[2]["Retry-After"]) > 0


@pytest.mark.django_db
def test_github_signs_the_body_and_its_delivery_id_cannot_be_made_up(ada):
    made(ada, scheme="github", secret="a-secret-of-twenty-chars")
    text = json.dumps(BODY)
    digest = hmac.new(b"a-secret-of-twenty-chars", text.encode(), hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": f"sha256={digest}", "x-github-delivery": "1", "x-by": "hub"}
    assert post(text, headers).status_code == 202
    problem(post(text, {**headers, "x-github-delivery": "2"}), 409, "delivery_replayed")
    problem(post(text + " ", headers), 401, "signature_invalid")
    problem(post(text, {"x-by": "hub"}), 400, "delivery_malformed")


@pytest.mark.django_db
def test_gitlab_sends_its_token(ada):
    made(ada, scheme="gitlab", secret="a-secret-of-twenty-chars")
    headers = {"x-gitlab-token": "a-secret-of-twenty-chars", "idempotency-key": "k1", "x-by": "lab"}
    assert post(json.dumps(BODY), headers).status_code == 202
    problem(post(json.dumps(BODY), headers), 409, "delivery_replayed")
    problem(post(json.dumps(BODY), {**headers, "x-gitlab-token": "another"}), 401, "signature_invalid")


@pytest.mark.django_db
def test_a_body_selects_neither_repository_nor_tool_nor_owner(ada):
    for payload in (
        {**PAYLOAD, "repository": "${{ body.repository }}"},
        {**PAYLOAD, "agent": "${{ body.agent }}"},
        {"steps": [step(tool="${{ body.tool }}")]},
        {"steps": [step(key="${{ body.key }}")]},
    ):
        with pytest.raises(changes.InvalidInput, match="cannot come from an expression"):
            made(ada, payload=payload)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("${{ body.said }}", "${{ job.owner }} ${{ 1 + 1 }}"),
        ("$${{ body.said }}", "{{ job.owner }}"),
        ("says ${{ body.said }}", "${{ never closed"),
    ],
)
def test_an_expression_in_a_body_stays_text(ada, text, sent):
    payload = {"steps": [step(tool="files.write", arguments={"path": "a.txt", "content": text})]}
    _, secret = made(ada, payload=payload)
    assert post(*standard(secret, {"said": sent})).status_code == 202
    job = Job.objects.get()
    resolved = expressions.resolve(job.steps.get().template, expressions.scope(job))
    assert resolved["content"] == text.replace("${{ body.said }}", sent)


@pytest.mark.django_db
def test_a_delivery_can_emit_an_event_instead(ada):
    _, secret = made(ada, payload=None, event="ci.done", event_key="body.commit")
    answer = post(*standard(secret, BODY)).json()
    event = TriggerEvent.objects.get()
    assert answer == {"delivery": answer["delivery"], "outcome": "emitted", "job": None, "event": str(event.pk)}
    assert (event.name, event.key, event.data, event.owner) == ("ci.done", "abc123", BODY, ada)


@pytest.mark.django_db
def test_the_secret_is_encrypted_and_an_old_one_holds_no_more(ada):
    hook, secret = made(ada)
    assert secret.startswith("whsec_")
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(w)::text FROM agents_webhook w")
        assert secret[10:] not in cursor.fetchone()[0]
    changes.rotate(hook, by=ada, now=timezone.now())
    problem(post(*standard(secret, BODY)), 401, "signature_invalid")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"payload": None}, "payload"),
        ({"condition": "bdy.x"}, "condition"),
        ({"condition": "body.x =="}, "condition"),
        ({"condition": "shell('x')"}, "condition"),
        ({"event_key": "body.x"}, "event_key"),
        ({"event": "Not A Name"}, "event"),
        ({"scheme": "none"}, "scheme"),
        ({"tolerance_s": 0}, "tolerance_s"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_bad_input_names_its_field(ada, fields, field):
    with pytest.raises(changes.InvalidInput) as caught:
        made(ada, **fields)
    assert field in [name for name, _ in caught.value.problems]
