"""Mails: plain text and HTML, over Django's mail backend. A mail holds a link and never a decision."""

import smtplib
from textwrap import indent
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMultiAlternatives, get_connection
from django.template.loader import render_to_string

from approvals.errors import ChannelError
from approvals.models import ApprovalRequest
from approvals.visible import visible, visible_line

SUBJECT_MAX = 150
COMMAND_MAX = 4000  # the page shows it whole


def send(request: ApprovalRequest, recipient: User | None, url: str) -> None:
    """Mails one person.

    Raises:
        ChannelError: the server did not take it; permanent where it refuses this address.
    """
    if recipient is None or not recipient.email:
        raise ChannelError("There is no address to write to.", permanent=True)
    context = describe(request, recipient, url)
    message = EmailMultiAlternatives(
        subject=subject(request),
        body=render_to_string("approvals/mail/request.txt", context),
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=[recipient.email],
        headers={"Auto-Submitted": "auto-generated", "X-Countersign-Request": str(request.pk)},
        connection=get_connection(fail_silently=False),
    )
    message.attach_alternative(render_to_string("approvals/mail/request.html", context), "text/html")
    try:
        message.send()
    except smtplib.SMTPRecipientsRefused as error:
        code = max((answer[0] for answer in error.recipients.values()), default=0)
        raise ChannelError(f"The mail server refuses this recipient ({code}).", permanent=500 <= code < 600) from error
    except (smtplib.SMTPException, OSError) as error:
        raise ChannelError(f"{type(error).__name__}: {error}"[:300]) from error


def subject(request: ApprovalRequest) -> str:
    """What is asked, on one line: `Approve? git push origin main (high risk, in shop)`."""
    asked = visible_line(request.command, 90)
    where = f", in {visible_line(repository, 30)}" if (repository := _word(request, "repository")) else ""
    if request.kind == ApprovalRequest.Kind.QUESTION:
        return visible_line(f"Question: {asked}", SUBJECT_MAX)
    return visible_line(f"Approve? {asked} ({request.risk} risk{where})", SUBJECT_MAX)


def describe(request: ApprovalRequest, recipient: User | None, url: str) -> dict[str, Any]:
    """What the mail's templates show; everything that others wrote has its hidden characters marked."""
    command = visible(request.command)
    shown = command[:COMMAND_MAX]
    return {
        "site": settings.SITE_NAME,
        "request": request,
        "question": request.kind == ApprovalRequest.Kind.QUESTION,
        "recipient": recipient.get_username() if recipient is not None else "",
        "title": visible_line(request.title, 300),
        "command": shown,
        # every line, so that none passes for the mail around it
        "indented": indent(shown, "    ", lambda line: True),
        "clipped": len(command) > COMMAND_MAX,
        "risk_reasons": [visible_line(str(reason), 300) for reason in request.risk_reasons],
        "facts": facts(request),
        "url": url,
    }


def facts(request: ApprovalRequest) -> list[tuple[str, str]]:
    """Who asks, where and until when, as (label, value)."""
    group = request.approvers.name if request.approvers is not None else ""
    found = [
        ("Requested by", _word(request, "requester") or request.requester.get_username()),
        ("Agent", _word(request, "agent")),
        ("Repository", _word(request, "repository")),
        ("Goal", visible_line(_word(request, "goal"), 300)),
        ("Policy", f"{request.policy_version}, rule {request.rule}" if request.policy_version else ""),
        ("Why you are asked", request.rule_reason),
        ("Needs", f"{request.quorum} of {group}" if group and request.kind == ApprovalRequest.Kind.APPROVAL else ""),
        ("Expires", f"{request.expires_at:%Y-%m-%d %H:%M} UTC"),
    ]
    return [(label, visible_line(value, 500)) for label, value in found if value]


def _word(request: ApprovalRequest, name: str) -> str:
    return str(request.context.get(name) or "")
