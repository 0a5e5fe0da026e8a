"""Messages to people: queued with the request, sent once, retried as rows, over real servers."""

import email
import email.policy
import http.server
import json
import re
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.db import connections, transaction
from django.utils import timezone

from approvals import links, notify
from approvals.channels.email import subject
from approvals.decisions import decide
from approvals.errors import LinkExpired, LinkUnknown
from approvals.models import ApprovalLink, MailboxMessage, Notification
from tests import smtpserver
from tests.factories import approvals
from tests.smtpserver import Inbox

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def smtp(settings) -> Iterator[Inbox]:
    with smtpserver.running(settings) as inbox:
        yield inbox


@pytest.fixture
def mailbox(settings) -> None:
    """The development backend; pytest-django puts Django's in-memory one in its place."""
    settings.EMAIL_BACKEND = "approvals.channels.mailbox.MailboxBackend"


@pytest.fixture
def slack(settings) -> Iterator[dict[str, Any]]:
    """A server in Slack's place: `seen` holds what was posted, `status` is what it answers."""
    state: dict[str, Any] = {"seen": [], "status": 200}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state["seen"].append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(state["status"])
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings.SLACK_WEBHOOK_URL = f"http://127.0.0.1:{server.server_port}/services/T/B/secret"
    yield state
    server.shutdown()
    thread.join(60)
    server.server_close()


@pytest.fixture
def published(monkeypatch) -> list[str]:
    """Notification ids that were handed to the broker."""
    sent: list[str] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, args, **options: sent.append(args[0]))
    return sent


def row(request, channel: str = "email") -> Notification:
    return Notification.objects.get(request=request, channel=channel)


def deliver(notification: Notification, *, now=None) -> bool:
    return notify.deliver(notification.pk, now=now or timezone.now())


def token_in(text: str) -> str:
    found = re.search(r"/a/([A-Za-z0-9_-]{43})/", text)
    assert found
    return found.group(1)


def test_a_mail_goes_through_a_real_smtp_server_as_text_and_html(smtp, settings):
    settings.PUBLIC_URL = "https://countersign.example"
    approvals.approvers("grace")
    request = approvals.request(command="git push origin 'naïve <b>branch</b>'\u202e", blast={"lines_added": 41})
    assert deliver(row(request))
    (envelope,) = smtp.taken
    assert envelope.rcpt_tos == ["grace@example.invalid"]
    message = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert message["Subject"].strip().startswith("Approve? git push origin 'naïve")
    assert "high risk" in message["Subject"] and "shop" in message["Subject"]
    assert "\u202e" not in message["Subject"]
    text = message.get_body(("plain",)).get_content()
    html = message.get_body(("html",)).get_content()
    for body in (text, html):
        assert "⟦U+202E⟧" in body and "\u202e" not in body
        assert "https://countersign.example/a/" in body
        assert "It leaves this server." in body
        assert "lines added 41" in body
    assert "<b>branch</b>" not in html
    assert "&lt;b&gt;branch&lt;/b&gt;" in html
    assert "<form" not in html and "<script" not in html
    assert links.find(token_in(text), now=timezone.now()).request_id == request.pk
    assert row(request).state == "sent"


def test_the_mailbox_backend_keeps_the_same_mail(mailbox):
    approvals.approvers("grace")
    request = approvals.request()
    assert deliver(row(request))
    mail = MailboxMessage.objects.get()
    assert mail.recipients == ["grace@example.invalid"]
    assert mail.subject == subject(request)
    assert token_in(mail.text) == token_in(mail.html)
    parsed = email.message_from_bytes(bytes(mail.source), policy=email.policy.default)
    assert parsed["To"] == "grace@example.invalid"
    assert parsed["Auto-Submitted"] == "auto-generated"


def test_everybody_who_may_decide_is_told_and_nobody_else():
    ada, *_ = approvals.approvers("ada", "grace", "alan", "no-address")
    type(ada).objects.filter(username="no-address").update(email="")
    request = approvals.request(requester=ada)
    told = Notification.objects.filter(request=request).values_list("recipient__username", flat=True)
    assert sorted(told) == ["alan", "grace"]


def test_tasks_are_published_after_commit_and_not_before(published):
    approvals.approvers("grace")
    with transaction.atomic():
        request = approvals.request()
        assert published == []
    assert published == [str(row(request).pk)]
    with transaction.atomic():
        approvals.request()
        transaction.set_rollback(True)
    assert len(published) == 1


def test_the_task_is_on_the_control_queue_with_an_id_only():
    approvals.approvers("grace")
    with current_app.connection_for_read() as broker:
        broker.default_channel.client.delete("control")
        request = approvals.request()
        message = broker.default_channel.basic_get("control", no_ack=True)
    assert message is not None
    assert message.headers["task"] == "approvals.deliver"
    assert json.loads(message.body)[0] == [str(row(request).pk)]


def test_a_broker_that_is_away_does_not_stop_a_request(settings, monkeypatch):
    def away(*args: object, **options: object) -> None:
        raise ConnectionRefusedError

    approvals.approvers("grace", "alan")
    with monkeypatch.context() as patch:
        patch.setattr(current_app, "send_task", away)
        request = approvals.request()
        assert set(Notification.objects.filter(request=request).values_list("published_at", flat=True)) == {None}
        assert notify.deliver_due(timezone.now()) == 0
    sent: list[str] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, args, **options: sent.append(args[0]))
    assert notify.deliver_due(timezone.now()) == 2
    assert len(sent) == 2


def test_a_lost_task_is_published_again_and_not_each_second(published):
    approvals.approvers("grace")
    now = timezone.now()
    approvals.request(now=now)
    assert notify.deliver_due(now + timedelta(seconds=5)) == 0
    assert notify.deliver_due(now + timedelta(seconds=notify.REPUBLISH_S + 1)) == 1
    assert notify.deliver_due(now + timedelta(seconds=notify.REPUBLISH_S + 2)) == 0


def test_a_doubled_task_sends_once(mailbox):
    approvals.approvers("grace")
    notification = row(approvals.request())
    start, outcomes = threading.Barrier(4), []

    def go() -> None:
        try:
            start.wait(60)
            outcomes.append(deliver(notification))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == [False, False, False, True]
    assert MailboxMessage.objects.count() == 1
    assert ApprovalLink.objects.count() == 1


def test_a_server_that_is_away_is_tried_again_later_and_later(smtp, settings):
    approvals.approvers("grace")
    now = timezone.now()
    request = approvals.request(now=now, expires_s=7 * 86_400)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        good, settings.EMAIL_PORT = settings.EMAIL_PORT, closed.getsockname()[1]
        waits = []
        for _ in range(3):
            due = row(request).not_before
            assert deliver(row(request), now=due) is False
            waits.append((row(request).not_before - due).total_seconds())
    assert waits == [60, 120, 240]
    assert "ConnectionRefusedError" in row(request).error
    assert not ApprovalLink.objects.exists()
    settings.EMAIL_PORT = good
    assert deliver(row(request), now=row(request).not_before - timedelta(seconds=1)) is False
    assert deliver(row(request), now=row(request).not_before) is True
    assert row(request).state == "sent"


def test_an_address_that_the_server_refuses_is_given_up(smtp):
    approvals.approvers("grace")
    request = approvals.request()
    smtp.answer = "550 no such user"
    assert deliver(row(request)) is False
    assert (row(request).state, row(request).attempts) == ("failed", 1)
    assert "550" in row(request).error


def test_a_server_that_is_busy_is_not_given_up(smtp):
    approvals.approvers("grace")
    request = approvals.request()
    smtp.answer = "450 later"
    assert deliver(row(request)) is False
    assert row(request).state == "queued"


def test_tries_end(smtp):
    approvals.approvers("grace")
    request = approvals.request(expires_s=30 * 86_400)
    smtp.answer = "450 later"
    for _ in range(notify.ATTEMPTS_MAX):
        deliver(row(request), now=row(request).not_before)
    assert (row(request).state, row(request).attempts) == ("failed", notify.ATTEMPTS_MAX)


def test_the_task_sends_and_a_second_one_does_not(mailbox):
    approvals.approvers("grace")
    notification = row(approvals.request())
    current_app.loader.import_default_modules()  # as a worker does when it starts
    task = current_app.tasks["approvals.deliver"]
    for _ in range(2):
        task(str(notification.pk))
    assert MailboxMessage.objects.count() == 1


def test_a_setting_that_is_wrong_is_said_in_the_row_and_tried_again(settings):
    approvals.approvers("grace")
    request = approvals.request()
    settings.EMAIL_BACKEND = "nowhere.Backend"
    assert deliver(row(request)) is False
    assert row(request).state == "queued"
    assert "ModuleNotFoundError" in row(request).error
    assert not ApprovalLink.objects.exists()


def test_a_message_whose_every_sender_died_is_given_up(mailbox):
    approvals.approvers("grace")
    request = approvals.request()
    Notification.objects.update(attempts=notify.ATTEMPTS_MAX)
    assert deliver(row(request)) is False
    assert row(request).state == "failed"


def test_nothing_is_sent_about_what_is_decided(mailbox):
    grace, _ = approvals.approvers("grace", "alan")
    request = approvals.request()
    decide(request_id=request.pk, by=grace, verdict="approve", reason="", channel="page", now=timezone.now())
    asked = Notification.objects.filter(request=request).exclude(kind="outcome")
    assert len(asked) == 2
    for notification in asked:
        assert notification.state == "dropped"
        assert deliver(notification) is False
    assert not MailboxMessage.objects.exists()


def test_who_may_not_decide_any_more_gets_no_mail(mailbox):
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    grace.groups.clear()
    assert deliver(row(request)) is False
    assert row(request).state == "dropped"


def test_slack_gets_the_exact_command_and_a_button_that_is_a_link(slack, settings):
    approvals.approvers("grace")
    request = approvals.request(command="git push <!channel> ```x``` \u202e", title="helper wants <@everyone>")
    assert deliver(row(request, "slack"))
    (message,) = slack["seen"]
    assert "<!channel>" not in message["text"]
    blocks = {block["type"]: block for block in message["blocks"]}
    (element,) = blocks["rich_text"]["elements"]
    assert element["type"] == "rich_text_preformatted"
    assert element["elements"][0]["text"] == "git push <!channel> ```x``` ⟦U+202E⟧"
    assert blocks["header"]["text"]["type"] == "plain_text"
    assert all(field["type"] == "plain_text" for field in blocks["section"]["fields"])
    (button,) = blocks["actions"]["elements"]
    assert button["url"].startswith(f"{settings.PUBLIC_URL}/a/")
    assert "value" not in button
    assert links.find(token_in(button["url"]), now=timezone.now()).recipient_id is None


@pytest.mark.parametrize(("status", "state"), [(500, "queued"), (429, "queued"), (404, "failed"), (302, "failed")])
def test_slack_decides_whether_another_try_helps(slack, status, state):
    approvals.approvers("grace")
    request = approvals.request()
    slack["status"] = status
    assert deliver(row(request, "slack")) is False
    assert row(request, "slack").state == state


def test_slack_that_is_away_is_tried_again_and_its_address_stays_secret(settings):
    approvals.approvers("grace")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        settings.SLACK_WEBHOOK_URL = f"http://127.0.0.1:{closed.getsockname()[1]}/services/secret"
        request = approvals.request()
        assert deliver(row(request, "slack")) is False
    assert row(request, "slack").state == "queued"
    assert "secret" not in row(request, "slack").error


def test_links_are_stored_hashed_and_end_with_their_request():
    (grace,) = approvals.approvers("grace")
    request = approvals.request(expires_s=60)
    link, url = links.issue(request, recipient_id=grace.pk, channel="email", now=timezone.now())
    token = token_in(url)
    assert len(token) == 43
    assert token not in str(ApprovalLink.objects.values().get())
    assert links.find(token, now=timezone.now()) == link
    with pytest.raises(LinkExpired):
        links.find(token, now=request.expires_at)
    for unknown in ("x" * 43, "short", "é" * 43, ""):
        with pytest.raises(LinkUnknown):
            links.find(unknown, now=timezone.now())


def test_no_line_of_a_command_passes_for_the_mail_around_it(mailbox):
    approvals.approvers("grace")
    trick = "ls\n\nRisk: low\n\nRead it all and decide:\nhttps://evil.example/a/"
    deliver(row(approvals.request(command=trick)))
    lines = MailboxMessage.objects.get().text.splitlines()
    assert [line for line in lines if line.startswith("Risk:")] == ["Risk: high"]
    assert "    https://evil.example/a/" in lines and "https://evil.example/a/" not in lines


def test_one_job_cannot_flood_people_with_messages(slack, monkeypatch):
    monkeypatch.setattr(notify, "MESSAGES_MAX", 3)
    approvals.approvers("grace", "alan")
    job = "0199b2b0-0000-7000-8000-000000000001"
    for _ in range(5):
        approvals.request(parent_id=job)
    asked = Notification.objects.filter(request__parent_id=job)
    for one in ({"recipient__username": "grace"}, {"recipient__username": "alan"}, {"channel": "slack"}):
        states = list(asked.filter(**one).order_by("not_before").values_list("state", flat=True))
        assert states == ["queued"] * 3 + ["dropped"] * 2
    assert "inbox" in asked.filter(state="dropped").first().error
    other = approvals.request()
    assert set(Notification.objects.filter(request=other).values_list("state", flat=True)) == {"queued"}
    later = approvals.request(parent_id=job, now=timezone.now() + timedelta(seconds=notify.MESSAGES_WINDOW_S + 60))
    assert set(Notification.objects.filter(request=later).values_list("state", flat=True)) == {"queued"}
