"""Links in messages: 43 random characters that find a request. Who follows one still signs in and is judged."""

import hashlib
import re
import secrets
from datetime import datetime

from django.conf import settings

from approvals.errors import LinkExpired, LinkUnknown
from approvals.models import ApprovalLink, ApprovalRequest

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def issue(
    request: ApprovalRequest, *, recipient_id: int | None, channel: str, now: datetime
) -> tuple[ApprovalLink, str]:
    """A new link to `request` for one recipient (None: a room), good until the request expires.

    Gives its row, and its address. Only the token's SHA-256 is stored, so the address cannot be had again.
    """
    token = secrets.token_urlsafe(32)
    link = ApprovalLink.objects.create(
        token_sha256=_digest(token),
        request=request,
        recipient_id=recipient_id,
        channel=channel,
        created_at=now,
        expires_at=request.expires_at,
    )
    return link, f"{settings.PUBLIC_URL}/a/{token}/"


def find(token: str, *, now: datetime) -> ApprovalLink:
    """Looks a link up and changes nothing, however often.

    Raises:
        LinkUnknown, LinkExpired
    """
    if _TOKEN.fullmatch(token) is None:
        raise LinkUnknown("There is no such link.")
    link = ApprovalLink.objects.select_related("request").filter(token_sha256=_digest(token)).first()
    if link is None:
        raise LinkUnknown("There is no such link.")
    if link.expires_at <= now:
        raise LinkExpired("This link's time is over.")
    return link


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
