"""Django's mail backend in development: mails become rows, which the mailbox page shows."""

from collections.abc import Sequence

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.utils import timezone

from approvals.models import MailboxMessage


class MailboxBackend(BaseEmailBackend):
    """Takes every mail; the source that is kept is what an SMTP server would have been given."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        now = timezone.now()
        for message in email_messages:
            MailboxMessage.objects.create(
                sent_at=now,
                sender=message.from_email,
                recipients=message.recipients(),
                subject=" ".join(str(message.subject).split())[:998],
                text=str(message.body),
                html=_html(message),
                source=message.message().as_bytes(),
            )
        return len(email_messages)


def _html(message: EmailMessage) -> str:
    for content, mimetype in getattr(message, "alternatives", None) or []:
        if mimetype == "text/html":
            return str(content)
    return ""
