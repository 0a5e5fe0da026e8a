"""Links by which others read a conversation. Whoever reads is signed in; a link that was taken back finds nothing."""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from agents.chat.payload import LinkInput
from agents.chat.selectors import holding
from agents.errors import NotAllowed, NotNow, NotVisible
from agents.models import Conversation, ConversationLink
from agents.payload import parse
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

LINKS_MOST = 50  # of a conversation, that hold


@transaction.atomic
def make(talk: Conversation, payload: Mapping[str, Any], *, by: User, now: datetime) -> tuple[ConversationLink, str]:
    """The link's row and its address (see `agents.chat.payload.LinkInput`): the only time that anybody sees it.

    Raises:
        InvalidInput
        NotAllowed: it is somebody else's conversation.
        NotNow: too many links hold already.
    """
    given = parse(LinkInput, payload)
    _own(talk, by)
    if holding(now).filter(conversation=talk).count() >= LINKS_MOST:
        raise NotNow(f"At most {LINKS_MOST} links hold at a time: revoke one.")
    secret = secrets.token_urlsafe(32)
    link = ConversationLink.objects.create(
        conversation=talk,
        sha256=_sha256(secret),
        created_by=by,
        until=now if given.shows == "now" else None,
        created_at=now,
        expires_at=now + timedelta(days=given.days) if given.days is not None else None,
    )
    _record(Event.CHAT_SHARED, link, by, {"shows": given.shows, "days": given.days or 0})
    return link, f"{settings.PUBLIC_URL}/chat/shared/{secret}/"


@transaction.atomic
def revoke(talk: Conversation, link_id: UUID, *, by: User, now: datetime) -> ConversationLink:
    """Ends a link; ending it twice changes nothing. Raises NotAllowed, NotVisible."""
    _own(talk, by)
    link = ConversationLink.objects.select_for_update().filter(conversation=talk, pk=link_id).first()
    if link is None:
        raise NotVisible("There is no such link.")
    if link.revoked_at is None:
        link.revoked_at = now
        link.save(update_fields=["revoked_at"])
        _record(Event.CHAT_UNSHARED, link, by, {})
    return link


@transaction.atomic
def open_link(secret: str, *, by: User, now: datetime) -> ConversationLink:
    """The link of an address, for one who is signed in; noted. Raises NotVisible: there is none that holds."""
    link = (
        holding(now).select_related("conversation__agent", "conversation__owner").filter(sha256=_sha256(secret)).first()
    )
    if link is None:
        raise NotVisible("There is no such link, or it has ended.")
    ConversationLink.objects.filter(pk=link.pk).update(opened=F("opened") + 1, opened_at=now)
    if by.pk != link.conversation.owner_id:
        _record(Event.CHAT_READ, link, by, {})
    return link


def _own(talk: Conversation, by: User) -> None:
    if talk.owner_id != by.pk and not by.is_superuser:
        raise NotAllowed("Only who began the conversation shares it.")


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _record(event: Event, link: ConversationLink, by: User, context: dict[str, Any]) -> None:
    record(
        event,
        actor=Actor.user(by.pk),
        target=Target(type="conversation", id=str(link.conversation_id)),
        context={"link": str(link.pk), **context},
    )
