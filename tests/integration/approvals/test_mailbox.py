"""The development mailbox."""

import pytest
from django.core.mail import EmailMultiAlternatives
from django.test import Client
from django.utils import timezone

from approvals import notify
from approvals.models import MailboxMessage, Notification
from tests.factories import approvals, people

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def mailbox(settings) -> None:
    settings.EMAIL_BACKEND = "approvals.channels.mailbox.MailboxBackend"
    settings.MAILBOX_ENABLED = True


def signed_in(name: str, **fields) -> Client:
    client = Client()
    client.force_login(people.user(name, **fields))
    return client


def test_a_mail_is_read_and_its_link_leads_to_the_page():
    approvals.approvers("grace")
    request = approvals.request()
    notify.deliver(Notification.objects.get(request=request).pk, now=timezone.now())
    client = signed_in("grace")
    mail = MailboxMessage.objects.get()
    assert "Approve? git push origin main" in client.get("/mailbox/").content.decode()
    page = client.get(f"/mailbox/{mail.pk}/")
    link = page.context["links"][0]
    assert link.startswith("/a/") and f'href="{link}"' in page.content.decode()
    assert client.get(link, follow=True).redirect_chain[-1][0] == request.get_absolute_url()


def test_the_html_of_a_mail_runs_nothing_and_stays_in_its_frame():
    message = EmailMultiAlternatives("s", "text", "a@example.invalid", ["b@example.invalid"])
    message.attach_alternative("<script>alert(1)</script><form action=/approvals/><img src=//x>", "text/html")
    message.send()
    mail = MailboxMessage.objects.get()
    client = signed_in("root", is_staff=True)
    page = client.get(f"/mailbox/{mail.pk}/")
    assert "<script>alert" not in page.content.decode()
    assert 'sandbox="allow-top-navigation-by-user-activation"' in page.content.decode()
    assert "default-src 'self'" in page["Content-Security-Policy"]
    html = client.get(f"/mailbox/{mail.pk}/html/")
    policy = html["Content-Security-Policy"]
    for part in ("default-src 'none'", "form-action 'none'", "sandbox ", "frame-ancestors 'self'"):
        assert part in policy
    assert "allow-scripts" not in policy and "allow-same-origin" not in policy
    assert html["X-Frame-Options"] == "SAMEORIGIN"


def test_text_of_a_mail_is_escaped_and_foreign_links_are_not_offered():
    EmailMultiAlternatives(
        "<b>s</b>\u202e", "see https://evil.example/a/" + "x" * 43 + "/ <i>", "a@example.invalid", ["b@example.invalid"]
    ).send()
    page = signed_in("root", is_staff=True).get(f"/mailbox/{MailboxMessage.objects.get().pk}/")
    assert page.context["links"] == []
    text = page.content.decode()
    assert "<b>s</b>" not in text and "<i>" not in text and "⟦U+202E⟧" in text
    assert 'href="https://evil' not in text


def test_others_read_their_own_mails_only():
    EmailMultiAlternatives("secret", "text", "a@example.invalid", ["grace@example.invalid"]).send()
    mail = MailboxMessage.objects.get()
    assert "secret" in signed_in("grace").get("/mailbox/").content.decode()
    for client in (signed_in("alan"), signed_in("nobody", email="")):
        assert "secret" not in client.get("/mailbox/").content.decode()
        assert client.get(f"/mailbox/{mail.pk}/").status_code == 404
        assert client.get(f"/mailbox/{mail.pk}/html/").status_code == 404
    assert Client().get("/mailbox/").status_code == 302


def test_without_the_mailbox_backend_there_are_no_pages(settings):
    settings.MAILBOX_ENABLED = False
    client = signed_in("root", is_staff=True, is_superuser=True)
    for path in ("/mailbox/", "/mailbox/0190a7a4-7a0b-7c3e-8a55-0123456789ab/"):
        assert client.get(path).status_code == 404
