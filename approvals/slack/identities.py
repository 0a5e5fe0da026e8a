"""Whose account in Slack is whose. It is linked by whoever follows a one-time link, signed in, and says so on a page.

The link alone would let somebody talk another into linking the wrong account, so the mail address that Slack knows of the
account must be the user's.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.core import signing
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from approvals.errors import ChannelError, IdentityRefused, LinkExpired, LinkUnknown, SignatureReplayed
from approvals.models import ChannelIdentity
from approvals.slack import api, signed
from approvals.visible import visible_line
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

CHANNEL = "slack"
GOOD_S = 600
_SALT = "approvals.slack.link"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """team, user: Slack's ids; name: as Slack shows it."""

    team: str
    user: str
    name: str = ""


def user_of(account: Account) -> User | None:
    """Whoever has linked this account."""
    found = ChannelIdentity.objects.filter(channel=CHANNEL, team=account.team, external_id=account.user)
    identity = found.select_related("user").first()
    return identity.user if identity is not None else None


def of(user: User) -> QuerySet[ChannelIdentity]:
    return ChannelIdentity.objects.filter(user=user, channel=CHANNEL).order_by("linked_at")


def link_for(account: Account) -> str:
    """The address of a page that links this account to whoever is signed in there. Good once, for GOOD_S."""
    content = {"team": account.team, "user": account.user, "name": account.name, "once": secrets.token_urlsafe(9)}
    return f"{settings.PUBLIC_URL}/slack/link/{signing.dumps(content, salt=_SALT, compress=True)}/"


def read(token: str) -> Account:
    """Whose account the link is about. Raises LinkUnknown, LinkExpired."""
    try:
        content = signing.loads(token, salt=_SALT, max_age=timedelta(seconds=GOOD_S))
        return Account(team=str(content["team"]), user=str(content["user"]), name=str(content["name"]))
    except signing.SignatureExpired:
        raise LinkExpired("This link's time is over: press the button in Slack again.") from None
    except (signing.BadSignature, KeyError, TypeError, ValueError):
        raise LinkUnknown("There is no such link.") from None


def link(token: str, *, by: User, now: datetime) -> ChannelIdentity:
    """Links the account to `by`, once.

    Raises:
        LinkUnknown, LinkExpired
        IdentityRefused: the link was used; the account is another's, or `by` has another one; or the address that Slack
            knows is not the user's.
    """
    account = read(token)
    _same_person(account, by)
    try:
        with transaction.atomic():
            signed.take(f"slack-link:{token}", now=now, kept=timedelta(seconds=2 * GOOD_S))
            identity = ChannelIdentity.objects.create(
                user=by,
                channel=CHANNEL,
                team=account.team,
                external_id=account.user,
                name=visible_line(account.name, 80),
                linked_at=now,
            )
            record(Event.IDENTITY_LINKED, actor=Actor.user(by.pk), target=_target(by), context=_facts(identity))
    except SignatureReplayed:
        raise IdentityRefused("This link was used already.") from None
    except IntegrityError:
        raise IdentityRefused(
            "This Slack account is linked to somebody, or you have linked another one of this workspace: unlink that "
            "first."
        ) from None
    return identity


@transaction.atomic
def unlink(identity_id: UUID, *, by: User) -> bool:
    """Takes a link of the user's own away. False: there is none."""
    identity = of(by).select_for_update(of=("self",)).filter(pk=identity_id).first()
    if identity is None:
        return False
    identity.delete()
    record(Event.IDENTITY_UNLINKED, actor=Actor.user(by.pk), target=_target(by), context=_facts(identity))
    return True


def _same_person(account: Account, by: User) -> None:
    """Raises IdentityRefused."""
    try:
        profile = (api.ask("users.info", {"user": account.user}).get("user") or {}).get("profile") or {}
    except ChannelError as error:
        raise IdentityRefused(f"Slack could not be asked whose account this is: {error.message}") from None
    address = str(profile.get("email") or "")
    if not address or address.casefold() != by.email.casefold():
        raise IdentityRefused("The mail address of this Slack account is not yours here, so it is not linked to you.")


def _target(user: User) -> Target:
    return Target(type="user", id=str(user.pk))


def _facts(identity: ChannelIdentity) -> dict[str, str]:
    return {"channel": identity.channel, "team": identity.team, "account": identity.external_id}
