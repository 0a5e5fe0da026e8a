"""Channels over real servers: what each kind of message says, to whom, and that a dead one holds up nothing else."""

import email
import email.policy
import http.server
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from typing import Any, ClassVar

import httpx2
import pytest
from celery import current_app
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils import timezone
from standardwebhooks import Webhook as Receiver

from approvals import channels, notify, outbox, reminders
from approvals.channels import webhook
from approvals.channels.base import Channel, Kind, Message
from approvals.decisions import decide
from approvals.expiry import expire_due
from approvals.models import ApprovalRequest, Notification
from config import checks
from tests import smtpserver
from tests.factories import approvals, people
from tests.smtpserver import Inbox
from tools.spec import Risk, RiskScore

pytestmark = pytest.mark.django_db

LOW = RiskScore(level=Risk.LOW, reasons=("It reads.",))
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(autouse=True)
def published(monkeypatch) -> list[str]:
    sent: list[str] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, args, **options: sent.append(args[0]))
    return sent


@pytest.fixture
def smtp(settings) -> Iterator[Inbox]:
    with smtpserver.running(settings) as inbox:
        yield inbox


@pytest.fixture
def hook(settings, monkeypatch) -> Iterator[dict[str, Any]]:
    """A service that is told of approvals; `status` is what it answers."""
    monkeypatch.setattr(webhook, "TIMEOUT", httpx2.Timeout(120))
    state: dict[str, Any] = {"seen": [], "status": 204}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state["seen"].append((dict(self.headers), body))
            self.send_response(state["status"])
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings.APPROVAL_WEBHOOK_URL = f"http://127.0.0.1:{server.server_port}/in"
    settings.APPROVAL_WEBHOOK_SECRET = SECRET
    yield state
    server.shutdown()
    thread.join(60)
    server.server_close()


def row(request: ApprovalRequest, kind: str, channel: str = "email", **more: Any) -> Notification:
    return Notification.objects.get(request=request, channel=channel, kind=kind, **more)


def mails(inbox: Inbox) -> list[EmailMessage]:
    return [email.message_from_bytes(one.content, policy=email.policy.default) for one in inbox.taken]


def bodies(mail: EmailMessage) -> list[str]:
    parts = [mail.get_body(("plain",)), mail.get_body(("html",))]
    return [part.get_content() for part in parts if part is not None]


def vote(request: ApprovalRequest, name: str, verdict: str, reason: str = "") -> None:
    by = people.user(name)
    decide(request_id=request.pk, by=by, verdict=verdict, reason=reason, channel="page", now=timezone.now())


def test_the_requester_is_told_of_a_denial_with_its_reason_in_the_thread_of_the_request(smtp):
    approvals.approvers("grace")
    request = approvals.request()
    vote(request, "grace", "deny", "Use a <b>branch</b>\u202e.")
    assert notify.deliver(row(request, "outcome").pk, now=timezone.now())
    (mail,) = mails(smtp)
    assert mail["To"] == "ada@example.invalid"
    assert mail["Subject"] == "Denied by grace: git push origin main"
    assert mail["In-Reply-To"] and mail["Auto-Submitted"] == "auto-generated"
    text, html = bodies(mail)
    assert "    Use a <b>branch</b>⟦U+202E⟧." in text
    assert "&lt;b&gt;branch&lt;/b&gt;⟦U+202E⟧" in html and "<b>branch</b>" not in html
    assert "/a/" not in text and f"/approvals/{request.pk}/" in text


def test_expired_is_not_denied_in_words_either(smtp):
    approvals.approvers("grace")
    request = approvals.request(expires_s=60)
    later = timezone.now() + timedelta(seconds=61)
    expire_due(later)
    assert notify.deliver(row(request, "outcome").pk, now=later)
    (mail,) = mails(smtp)
    assert "Expired: nobody answered in time. Nobody said no." in bodies(mail)[0]


def test_who_answers_their_own_question_is_not_told_that_they_did(smtp):
    asked = approvals.question()
    decide(request_id=asked.pk, by=asked.requester, verdict="answer", reason="a", channel="page", now=timezone.now())
    assert not Notification.objects.filter(request=asked, kind="outcome").exists()


def test_what_was_taken_back_before_its_outcome_went_out_is_not_told(smtp):
    approvals.approvers("grace")
    request = approvals.request()
    vote(request, "grace", "approve")
    ApprovalRequest.objects.filter(pk=request.pk).update(state="pending")
    assert not notify.deliver(row(request, "outcome").pk, now=timezone.now())
    assert row(request, "outcome").state == "dropped"


def test_a_reminder_goes_to_those_who_have_not_voted_and_an_escalation_to_the_next_group(smtp):
    approvals.approvers("grace", "alan")
    approvals.approvers("linus", group="leads")
    now = timezone.now()
    request = approvals.request(quorum=2, now=now, expires_s=1000)
    leads = people.user("linus").groups.get(name="leads")
    ApprovalRequest.objects.filter(pk=request.pk).update(escalate_to=leads)
    vote(request, "grace", "approve")
    assert reminders.remind_due(now + timedelta(seconds=251)) == 1
    assert row(request, "reminder").recipient == people.user("alan")
    assert reminders.remind_due(now + timedelta(seconds=751)) == 1
    assert row(request, "escalation").recipient == people.user("linus")
    later = now + timedelta(seconds=752)
    due = Notification.objects.filter(request=request, kind__in=["reminder", "escalation"]).order_by("not_before", "pk")
    assert all(notify.deliver(one.pk, now=later) for one in due)
    subjects = sorted(str(mail["Subject"]) for mail in mails(smtp))
    assert [subject.split(":")[0] for subject in subjects] == ["Escalated", "Reminder", "Reminder"]
    assert "now you may too" in " ".join(bodies(mails(smtp)[-1]) + bodies(mails(smtp)[0]))


def test_the_mail_says_environment_quorum_with_roles_and_when_it_expires(smtp):
    approvals.approvers("grace")
    request = approvals.request(quorum=2, expires_s=3600)
    ApprovalRequest.objects.filter(pk=request.pk).update(
        environment="production", roles=[{"group": 0, "name": "owners", "count": 1}]
    )
    assert notify.deliver(row(request, "request").pk, now=timezone.now())
    for body in bodies(mails(smtp)[0]):
        for words in ("production", "2 of approvers and 1 of owners", "UTC (in 5"):
            assert words in body


@pytest.mark.django_db(transaction=True)
def test_a_mail_server_that_hangs_holds_up_no_other_channel_no_decision_and_one_thread_only(
    settings, hook, monkeypatch
):
    """The server takes the connection and says nothing, until the test hangs up."""
    monkeypatch.setattr(outbox, "LANE_WAIT_S", 0.05)
    approvals.approvers("grace", "alan")
    request = approvals.request(risk=LOW)
    rows = list(Notification.objects.filter(request=request, channel="email").order_by("pk"))
    assert len(rows) == 2
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", silent.getsockname()[1]
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        settings.EMAIL_TIMEOUT = 600
        came: list[bool] = []

        def hang() -> None:
            came.append(notify.deliver(rows[0].pk, now=timezone.now()))
            connections.close_all()

        sender = threading.Thread(target=hang)
        sender.start()
        connected, _ = silent.accept()
        now = timezone.now()
        assert not notify.deliver(rows[1].pk, now=now)  # the other mail waits its turn, in its row
        rows[1].refresh_from_db()
        assert (rows[1].state, rows[1].attempts) == ("queued", 0) and rows[1].not_before > now
        assert notify.deliver(row(request, "request", "webhook").pk, now=now)
        assert len(hook["seen"]) == 1
        vote(request, "grace", "approve")
        assert ApprovalRequest.objects.get(pk=request.pk).state == "approved"
        connected.close()
        sender.join(120)
    assert came == [False]


def test_the_webhook_channel_tells_of_requests_and_outcomes_signed(hook):
    approvals.approvers("grace")
    request = approvals.request(command="git push '<b>'\u202e")
    assert notify.deliver(row(request, "request", "webhook").pk, now=timezone.now())
    vote(request, "grace", "deny", "No.")
    assert notify.deliver(row(request, "outcome", "webhook").pk, now=timezone.now())
    told = [Receiver(SECRET).verify(body, headers) for headers, body in hook["seen"]]
    assert [one["type"] for one in told] == ["approval.request", "approval.outcome"]
    first, second = (one["data"] for one in told)
    assert first["approval"] == str(request.pk) and first["command"] == "git push '<b>'\u202e"
    assert first["digest"] == request.digest and first["state"] == "pending" and "/a/" in first["url"]
    assert (second["state"], second["outcome"], second["answer"]) == ("denied", "Denied by grace.", "No.")
    headers, body = hook["seen"][0]
    with pytest.raises(Exception, match="signature"):
        Receiver(SECRET).verify(body.replace(b"pending", b"approved"), headers)


@pytest.mark.parametrize(("status", "becomes"), [(500, "queued"), (429, "queued"), (410, "failed"), (302, "queued")])
def test_the_webhook_channel_tries_again_with_the_same_id_where_that_may_help(hook, status, becomes):
    approvals.approvers("grace")
    request = approvals.request()
    hook["status"] = status
    assert not notify.deliver(row(request, "request", "webhook").pk, now=timezone.now())
    again = row(request, "request", "webhook")
    assert again.state == becomes
    if becomes == "queued":
        hook["status"] = 200
        assert notify.deliver(again.pk, now=again.not_before)
        first, second = (headers["webhook-id"] for headers, _ in hook["seen"])
        assert first == second


class Pager(Channel):
    """A channel as one would write it."""

    name: ClassVar[str] = "pager"
    kinds: ClassVar[frozenset[str]] = frozenset({Kind.REQUEST})
    rung: ClassVar[list[str]] = []

    def configured(self) -> bool:
        return True

    def send(self, message: Message) -> str:
        self.rung.append(message.request.title)
        return "page-1"


def test_a_channel_is_one_class_and_a_line_in_the_settings(settings):
    settings.APPROVAL_CHANNELS = [f"{__name__}.Pager"]
    Pager.rung.clear()
    request = approvals.request()
    assert notify.deliver(row(request, "request", "pager").pk, now=timezone.now())
    assert Pager.rung == ["helper wants to run git.push in shop"]
    assert row(request, "request", "pager").place == "page-1"
    settings.APPROVAL_CHANNELS = []
    other = Notification.objects.create(request=request, channel="pager", not_before=timezone.now())
    assert not notify.deliver(other.pk, now=timezone.now())
    other.refresh_from_db()
    assert other.state == "failed" and "no channel" in other.error


@pytest.mark.parametrize("path", ["nowhere.Channel", "builtins.dict", "tests.integration.approvals.test_channels.LOW"])
def test_what_is_no_channel_is_said(settings, path):
    settings.APPROVAL_CHANNELS = [path, f"{__name__}.Pager"]
    with pytest.raises(ImproperlyConfigured, match="APPROVAL_CHANNELS"):
        channels.every()
    assert [one.id for one in checks.channels(None)] == ["countersign.E006"]
    approvals.approvers("grace")
    request = approvals.request()  # people are asked and decide all the same
    vote(request, "grace", "approve")
    assert list(Notification.objects.values_list("channel", flat=True)) == ["pager"]
