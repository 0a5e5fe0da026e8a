"""API tokens: making, checking and ending them.

A token is `cs_`, 43 characters of base64url (32 random bytes), and 6 characters of base62 (CRC-32 of what stands
before), so that a mistyped token is refused without a query and secret scanners can tell a real one. Only its SHA-256
is stored: 256 random bits need no slow hash.
"""

import hashlib
import re
import secrets
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet

from agents.errors import InvalidInput, TokenRefused
from agents.models import ApiToken
from audit.actor import Actor, ActorType, Target
from audit.append import record
from audit.kinds import Event

PREFIX = "cs_"
HINT_CHARS = 8
USED_AT_EVERY_S = 60

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(r"cs_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}")


def create_token(
    *,
    user: User,
    name: str,
    scopes: Sequence[str],
    now: datetime,
    actor: Actor,
    expires_at: datetime | None = None,
) -> tuple[ApiToken, str]:
    """The row, and the token itself: the only time that anybody sees it.

    Raises:
        InvalidInput: an unknown or missing scope, an empty name, an end that has passed.
    """
    token, secret = prepare_token(user=user, name=name, scopes=scopes, now=now, expires_at=expires_at)
    if actor.type == ActorType.USER and actor.id != str(user.pk):
        token.created_by_id = int(actor.id)
    with transaction.atomic():
        token.save(force_insert=True)
        record_created(token, actor=actor)
    return token, secret


def prepare_token(
    *, user: User, name: str, scopes: Sequence[str], now: datetime, expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """As `create_token`, but writes nothing."""
    unknown = [scope for scope in scopes if scope not in ApiToken.Scope.values]
    if unknown or not scopes:
        known = ", ".join(ApiToken.Scope.values)
        raise InvalidInput(f"Scopes are one or more of {known}; not {', '.join(unknown) or 'none'}.", field="scopes")
    if not name.strip() or len(name) > 120:
        raise InvalidInput("Give the token a name of at most 120 characters.", field="name")
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("The end must lie in the future.", field="expires_at")
    secret = new_secret()
    token = ApiToken(
        name=name.strip(),
        user=user,
        token_sha256=sha256(secret),
        hint=secret[:HINT_CHARS],
        scopes=sorted(set(scopes)),
        created_at=now,
        expires_at=expires_at,
    )
    return token, secret


def makers_of(token: object) -> dict[str, str]:
    """{user (primary key): "token owner"} of who made this token for its user; empty where that is nobody else."""
    made_by = token.created_by_id if isinstance(token, ApiToken) else None
    return {} if made_by is None else {str(made_by): "token owner"}


def record_created(token: ApiToken, *, actor: Actor) -> None:
    """The audit record of a new token, in the caller's transaction."""
    record(
        Event.TOKEN_CREATED,
        actor=actor,
        target=Target(type="token", id=str(token.pk)),
        context={
            "user": str(token.user_id),
            "hint": token.hint,
            "scopes": list(token.scopes),
            "expires_at": None if token.expires_at is None else token.expires_at.isoformat(),
        },
        payload={"name": token.name},
    )


@transaction.atomic
def revoke_token(token: ApiToken, *, now: datetime, actor: Actor) -> bool:
    """Ends a token for good. False: it was revoked before."""
    if not ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=now):
        return False
    token.revoked_at = now
    record(
        Event.TOKEN_REVOKED,
        actor=actor,
        target=Target(type="token", id=str(token.pk)),
        context={"user": str(token.user_id), "hint": token.hint},
    )
    return True


def new_secret() -> str:
    body = PREFIX + secrets.token_urlsafe(32)
    return body + checksum(body)


def well_formed(secret: str) -> bool:
    """Form and checksum hold; says nothing about whether such a token exists."""
    return bool(_FORM.fullmatch(secret)) and secrets.compare_digest(checksum(secret[:-6]), secret[-6:])


def checksum(body: str) -> str:
    """CRC-32 of `body` in base62, 6 characters, most significant first."""
    number, text = zlib.crc32(body.encode("ascii")), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        text = _BASE62[digit] + text
    return text


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def good(secret: str, *, now: datetime) -> ApiToken:
    """The row of what was sent, with its user. A mistyped one is refused without asking the database.

    Raises:
        TokenRefused
    """
    if not well_formed(secret):
        raise TokenRefused("token_malformed", "This is no API token: it is mistyped or cut.")
    return _held(ApiToken.objects.filter(token_sha256=sha256(secret)), now)


def still_good(token_id: UUID, *, now: datetime) -> ApiToken:
    """The row of a token that was good a while ago. Raises TokenRefused."""
    return _held(ApiToken.objects.filter(pk=token_id), now)


def _held(found: QuerySet[ApiToken], now: datetime) -> ApiToken:
    token = found.select_related("user").first()
    if token is None:
        raise TokenRefused("token_unknown", "There is no such API token.")
    if token.revoked_at is not None:
        raise TokenRefused("token_revoked", "This API token was revoked.")
    if token.expires_at is not None and token.expires_at <= now:
        raise TokenRefused("token_expired", "This API token has expired.")
    if not token.user.is_active:
        raise TokenRefused("user_inactive", "The user of this API token is not active.")
    return token


def touch(token: ApiToken, *, now: datetime, address: str = "") -> None:
    """Notes that it was used, at most once a minute; the first use of each hour is a record.

    address: where the request came from, as far as the server can tell.
    """
    stale = now - timedelta(seconds=USED_AT_EVERY_S)
    if token.used_at is not None and token.used_at > stale:
        return
    with transaction.atomic():
        due = ApiToken.objects.filter(Q(used_at__isnull=True) | Q(used_at__lte=stale), pk=token.pk)
        if not due.update(used_at=now):
            return
        if token.used_at is None or _hour(token.used_at) != _hour(now):
            record(
                Event.TOKEN_USED,
                actor=Actor.user(token.user_id),
                target=Target(type="token", id=str(token.pk)),
                context={"hint": token.hint},
                payload={"address": address[:64]},
            )


def _hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
