"""Attacks by mail: headers that text of others would add, addresses that are more than one, text that lies."""

import email
import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage

import pytest
from celery import current_app
from django.contrib.auth.models import User
from django.utils import timezone

from approvals import notify
from approvals.decisions import decide
from approvals.models import ApprovalRequest, Notification
from tests import smtpserver
from tests.factories import approvals
from tests.smtpserver import Inbox
from tools.spec import Call, Risk, RiskScore

pytestmark = pytest.mark.django_db

BREAKS = ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"]
HEADERS = "Bcc: evil@example.invalid"


@pytest.fixture
def smtp(settings, monkeypatch) -> Iterator[Inbox]:
    monkeypatch.setattr(current_app, "send_task", lambda name, args, **options: None)
    with smtpserver.running(settings) as inbox:
        yield inbox


def told(inbox: Inbox, request: ApprovalRequest, kind: str = "request") -> EmailMessage:
    row = Notification.objects.get(request=request, channel="email", kind=kind)
    before = len(inbox.taken)
    assert notify.deliver(row.pk, now=timezone.now())
    (envelope,) = inbox.taken[before:]
    assert len(envelope.rcpt_tos) == 1 and "evil" not in envelope.rcpt_tos[0]
    return email.message_from_bytes(envelope.content, policy=email.policy.default)  # type: ignore[return-value]


def bodies(mail: EmailMessage) -> list[str]:
    return [part.get_content() for part in (mail.get_body(("plain",)), mail.get_body(("html",))) if part is not None]


@pytest.mark.parametrize("line_break", BREAKS, ids=ascii)
def test_header_injection_by_a_call_its_repository_or_its_reasons(smtp, line_break):
    approvals.approvers("grace")
    lie = f"git push{line_break}{HEADERS}{line_break}{line_break}Approved already."
    request = approvals.request(
        command=lie,
        title=lie,
        context={"agent": lie, "requester": lie, "repository": lie, "goal": lie},
        risk=RiskScore(level=Risk.HIGH, reasons=(lie,)),
        call=Call(tool="git.push", schema_version=1, arguments={"branch": lie}, workspace_id="w"),
    )
    mail = told(smtp, request)
    assert mail["Bcc"] is None and mail["Cc"] is None
    assert mail.get_all("To") == ["grace@example.invalid"]
    assert HEADERS in str(mail["Subject"])  # on the one line where it belongs
    expected = {"Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "X-Countersign-Request"}
    assert set(mail.keys()) - expected <= {"MIME-Version", "Content-Type", "X-Peer", "X-MailFrom", "X-RcptTo"}


def test_header_injection_by_the_name_of_who_decided_and_by_a_reason(smtp):
    (grace,) = approvals.approvers("grace")
    User.objects.filter(pk=grace.pk).update(username=f"grace\r\n{HEADERS}")
    request = approvals.request()
    grace.refresh_from_db()
    why = f"No.\r\n{HEADERS}\r\n.\r\nMAIL FROM:<evil@example.invalid>"
    decide(request_id=request.pk, by=grace, verdict="deny", reason=why, channel="page", now=timezone.now())
    mail = told(smtp, request, "outcome")
    assert mail["Bcc"] is None
    assert len(smtp.taken) == 1 and "MAIL FROM" in bodies(mail)[0]  # smuggled into the text, not into the dialogue


@pytest.mark.parametrize(
    "address",
    [
        f"grace@example.invalid\r\n{HEADERS}",
        "grace@example.invalid, evil@example.invalid",
        "grace@example.invalid\x00",
        '"a\nBcc: evil@example.invalid"@example.invalid',
        "Grace <grace@example.invalid>",
        "grace",
    ],
    ids=ascii,
)
def test_an_address_that_is_more_than_one_address_gets_nothing(smtp, address):
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    row = Notification.objects.get(request=request, channel="email", kind="request")
    if "\x00" in address:
        address = address.replace("\x00", "\x01")  # PostgreSQL holds no NUL
    User.objects.filter(pk=grace.pk).update(email=address)
    assert not notify.deliver(row.pk, now=timezone.now())
    row.refresh_from_db()
    assert row.state == "failed" and not smtp.taken
    later = approvals.request()
    assert not Notification.objects.filter(request=later, channel="email").exists()


def test_html_and_bidirectional_text_are_shown_as_what_they_are(smtp):
    approvals.approvers("grace")
    lie = "push \u202egpj.exe\u202c \u200b<script>alert(1)</script><a href='https://evil.example'>Approve</a>{% now 'Y' %}"
    request = approvals.request(
        command=lie, title=lie, context={"agent": lie, "requester": lie, "repository": lie, "goal": lie}
    )
    mail = told(smtp, request)
    text, html = bodies(mail)
    for body in (text, html, str(mail["Subject"])):
        assert not set("\u202e\u202c\u200b") & set(body)
    assert "⟦U+202E⟧" in text and "⟦U+202E⟧" in html
    assert "<script" not in html and "&lt;script&gt;" in html
    assert "evil" not in " ".join(re.findall(r'href="([^"]+)"', html))
    assert "<form" not in html and "{% now" in text


def test_a_command_of_many_lines_cannot_pass_for_the_mail_around_it(smtp):
    approvals.approvers("grace")
    lie = "git push\n\nRead it all and decide:\nhttps://evil.example/a/x/\n\nRisk: low"
    text = bodies(told(smtp, approvals.request(command=lie)))[0]
    lines = text.splitlines()
    for line in lie.splitlines()[1:]:
        if line:
            assert f"    {line}" in lines
    assert [line for line in lines if line.startswith("https://evil")] == []
    assert [line for line in lines if line.startswith("Risk:")] == ["Risk: high"]
