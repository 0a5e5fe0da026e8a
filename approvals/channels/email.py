"""Mails: plain text and HTML, over Django's mail backend. A mail holds a link and never a decision."""

import smtplib
from textwrap import indent
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.validators import validate_email
from django.template.loader import render_to_string

from approvals.channels.base import Channel, Item, Kind, Message
from approvals.channels.words import QUESTION, SUBJECT_MAX, facts, outcome, quorum, subject
from approvals.errors import ChannelError
from approvals.models import ApprovalRequest
from approvals.visible import visible, visible_line

__all__ = ["Email", "describe", "subject"]
COMMAND_MAX = 4000  # the page shows it whole
LISTED_MAX = 400  # of a command among others
LEADS = {
    Kind.REMINDER: ("Reminder", "Nobody has decided this yet, and its time runs out."),
    Kind.ESCALATION: ("Escalated", "Those who were asked first have not decided: now you may too."),
}


class Email(Channel):
    """A mail to each person who has an address."""

    name = "email"
    kinds = frozenset({Kind.REQUEST, Kind.REMINDER, Kind.ESCALATION, Kind.OUTCOME})
    personal = True
    coalesces = True

    def configured(self) -> bool:
        return bool(settings.EMAIL_HOST or settings.MAILBOX_ENABLED)

    def reaches(self, user: User) -> bool:
        """One address, and nothing that could be more than that in a header."""
        try:
            validate_email(user.email)
        except ValidationError:
            return False
        return True

    def send(self, message: Message) -> str:
        """Mails one person.

        Raises:
            ChannelError: the server did not take it; permanent where it refuses this address.
        """
        if message.recipient is None or not self.reaches(message.recipient):
            raise ChannelError("There is no address to write to.", permanent=True)
        try:
            _mail(message, message.recipient).send()
        except smtplib.SMTPRecipientsRefused as error:
            code = max((answer[0] for answer in error.recipients.values()), default=0)
            final = 500 <= code < 600
            raise ChannelError(f"The mail server refuses this recipient ({code}).", permanent=final) from error
        except (smtplib.SMTPException, OSError) as error:
            raise ChannelError(f"{type(error).__name__}: {error}"[:300]) from error
        return ""


def _mail(message: Message, recipient: User) -> EmailMultiAlternatives:
    request = message.request
    if len(message.items) > 1:
        template, context = "several", describe_several(message, recipient)
        line = f"Approve? {len(message.items)} alike: {visible_line(request.title, 90)} ({request.risk} risk)"
    elif message.kind == Kind.OUTCOME:
        template, context = "outcome", describe(request, recipient, message.url)
        line = f"{outcome(request).split(':')[0].rstrip('.')}: {visible_line(request.command, 90)}"
    else:
        template, context = "request", {**describe(request, recipient, message.url), **_lead(message.kind)}
        line = f"{LEADS[Kind(message.kind)][0]}: {subject(request)}" if message.kind in LEADS else subject(request)
    mail = EmailMultiAlternatives(
        subject=visible_line(line, SUBJECT_MAX),
        body=render_to_string(f"approvals/mail/{template}.txt", context),
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=[recipient.email],
        headers=_headers(message, recipient),
        connection=get_connection(fail_silently=False),
    )
    mail.attach_alternative(render_to_string(f"approvals/mail/{template}.html", context), "text/html")
    return mail


def _headers(message: Message, recipient: User) -> dict[str, str]:
    """What comes later about a request stands in its thread."""
    host = urlsplit(settings.PUBLIC_URL).hostname or "localhost"
    first = f"<approval.{message.request.pk}.{recipient.pk}@{host}>"
    headers = {"Auto-Submitted": "auto-generated", "X-Countersign-Request": str(message.request.pk)}
    if message.kind == Kind.REQUEST:
        return {**headers, "Message-ID": first}
    return {**headers, "Message-ID": f"<message.{message.id}@{host}>", "In-Reply-To": first, "References": first}


def describe(request: ApprovalRequest, recipient: User | None, url: str) -> dict[str, Any]:
    """What the mail's templates show; everything that others wrote has its hidden characters marked."""
    command = visible(request.command)
    shown = command[:COMMAND_MAX]
    return {
        **_frame(recipient),
        "request": request,
        "question": request.kind == QUESTION,
        "title": visible_line(request.title, 300),
        "command": shown,
        # every line, so that none passes for the mail around it
        "indented": indent(shown, "    ", lambda line: True),
        "clipped": len(command) > COMMAND_MAX,
        "risk_reasons": [visible_line(str(reason), 300) for reason in request.risk_reasons],
        "facts": facts(request),
        "outcome": outcome(request),
        "answer": visible(request.answer)[:COMMAND_MAX],
        "answer_indented": indent(visible(request.answer)[:COMMAND_MAX], "    ", lambda line: True),
        "url": url,
    }


def describe_several(message: Message, recipient: User | None) -> dict[str, Any]:
    """The same for requests that are alike."""
    request = message.request
    alike = [(label, value) for label, value in facts(request) if label != "Expires"]
    return {
        **_frame(recipient),
        "request": request,
        "needs": quorum(request),
        "members": [_member(number, item) for number, item in enumerate(message.items, start=1)],
        "facts": alike,
        "inbox": f"{settings.PUBLIC_URL}/approvals/",
    }


def _member(number: int, item: Item) -> dict[str, Any]:
    command = visible(item.request.command)
    shown = command[:LISTED_MAX] + (" … the page shows the whole" if len(command) > LISTED_MAX else "")
    return {
        "number": number,
        "title": visible_line(item.request.title, 300),
        "command": shown,
        "indented": indent(shown, "    ", lambda line: True),
        "url": item.url,
    }


def _frame(recipient: User | None) -> dict[str, Any]:
    return {
        "site": settings.SITE_NAME,
        "recipient": visible_line(recipient.get_username(), 150) if recipient is not None else "",
    }


def _lead(kind: str) -> dict[str, str]:
    label, words = LEADS.get(Kind(kind), ("", ""))
    return {"lead_label": label, "lead": words}
