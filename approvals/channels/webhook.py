"""A service of one's own: each request and what became of it is posted there, signed as Standard Webhooks says.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import json
from typing import Any
from urllib.parse import urlsplit

import httpx2
from django.conf import settings
from django.utils import timezone
from standardwebhooks import Webhook as Signer

from approvals.channels.base import Channel, Kind, Message
from approvals.channels.words import outcome, quorum
from approvals.errors import ChannelError
from approvals.models import ApprovalRequest

TIMEOUT = httpx2.Timeout(10.0, connect=5.0)
COMMAND_MAX = 4000


class Webhook(Channel):
    """Posts to `settings.APPROVAL_WEBHOOK_URL`. `webhook-id` is the same at each try."""

    name = "webhook"
    kinds = frozenset({Kind.REQUEST, Kind.REMINDER, Kind.ESCALATION, Kind.OUTCOME})

    def configured(self) -> bool:
        return bool(settings.APPROVAL_WEBHOOK_URL and settings.APPROVAL_WEBHOOK_SECRET)

    def send(self, message: Message) -> str:
        """Raises ChannelError: any answer but 2xx; permanent where it is 4xx and not 408, 425 or 429."""
        if urlsplit(settings.APPROVAL_WEBHOOK_URL).scheme != "https" and not settings.ALLOW_LOCAL_WEBHOOKS:
            raise ChannelError("APPROVAL_WEBHOOK_URL must be https.")
        now = timezone.now()
        kind = f"approval.{message.kind}"
        body = json.dumps({"type": kind, "timestamp": now.isoformat(), "data": describe(message.request, message.url)})
        message_id = f"msg_{message.id.hex}"
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Signer(settings.APPROVAL_WEBHOOK_SECRET).sign(message_id, now, body),
        }
        try:
            with httpx2.Client(trust_env=False, timeout=TIMEOUT, follow_redirects=False) as client:
                status = client.post(settings.APPROVAL_WEBHOOK_URL, content=body, headers=headers).status_code
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ChannelError(f"It could not be reached: {type(error).__name__}.") from None
        if not 200 <= status < 300:
            raise ChannelError(
                f"It answered {status}.", permanent=400 <= status < 500 and status not in (408, 425, 429)
            )
        return ""


def describe(request: ApprovalRequest, url: str) -> dict[str, Any]:
    """The request as a program reads it: as it is, nothing is marked. url: its page; who opens it signs in."""
    return {
        "approval": str(request.pk),
        "kind": str(request.kind),
        "state": str(request.state),
        "title": request.title,
        "command": request.command[:COMMAND_MAX],
        "tool": str(request.call.get("tool", "")),
        "digest": request.digest,
        "risk": request.risk,
        "risk_reasons": list(request.risk_reasons),
        "blast": dict(request.blast),
        "environment": request.environment,
        "rule": request.rule,
        "needs": quorum(request),
        "job": request.parent_id,
        "created_at": request.created_at.isoformat(),
        "expires_at": request.expires_at.isoformat(),
        "outcome": outcome(request),
        "answer": request.answer,
        "url": url,
    }
