"""Slack, by incoming webhook: a message with a button that opens the page. Nothing is decided in Slack."""

from typing import Any

import httpx2
from django.conf import settings
from django.contrib.auth.models import User

from approvals.channels.email import facts, subject
from approvals.errors import ChannelError
from approvals.models import ApprovalRequest
from approvals.visible import visible, visible_line

TIMEOUT = httpx2.Timeout(10.0, connect=5.0)
COMMAND_MAX = 2500  # Slack takes 3000 characters a text; the page shows it whole
FACT_MAX = 500
FACTS_MAX = 10  # of a section


def send(request: ApprovalRequest, recipient: User | None, url: str) -> None:
    """Posts to the webhook of `settings.SLACK_WEBHOOK_URL`.

    Raises:
        ChannelError: not taken; permanent where Slack refuses the message or the webhook itself.
    """
    try:
        answer = httpx2.post(
            settings.SLACK_WEBHOOK_URL, json=message(request, url), timeout=TIMEOUT, follow_redirects=False
        )
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        # the address is a secret: it never stands in the error
        raise ChannelError(f"Slack could not be reached: {type(error).__name__}.") from None
    if answer.status_code != 200:
        again = answer.status_code == 429 or answer.status_code >= 500
        raise ChannelError(f"Slack answered {answer.status_code}: {answer.text[:100]}", permanent=not again)


def message(request: ApprovalRequest, url: str) -> dict[str, Any]:
    """Block Kit. What others wrote stands in plain and preformatted text only, so that none of it is markup."""
    command = visible(request.command)
    if len(command) > COMMAND_MAX:
        command = command[:COMMAND_MAX] + "\n… the page shows the whole"
    question = request.kind == ApprovalRequest.Kind.QUESTION
    fields = [_plain(f"{label}: {value}"[:FACT_MAX]) for label, value in facts(request)][:FACTS_MAX]
    return {
        "text": _escaped(subject(request)),
        "blocks": [
            {"type": "header", "text": _plain(visible_line(request.title, 150))},
            {
                "type": "rich_text",
                "elements": [
                    {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": command or " "}]}
                ],
            },
            {"type": "section", "fields": fields},
            {
                "type": "actions",
                "elements": [
                    {
                        "type": "button",
                        "text": _plain("Open and answer" if question else "Review and decide"),
                        "url": url,
                        "action_id": "open",
                        "style": "primary",
                    }
                ],
            },
        ],
    }


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _escaped(text: str) -> str:
    """`text` at the top is markup to Slack: these three characters are its syntax."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
