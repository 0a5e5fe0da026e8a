"""When the signed-in user last gave a second factor in this session."""

from datetime import UTC, datetime

from allauth.account.internal.flows.login import get_authentication_records
from django.contrib.auth.models import User
from django.http import HttpRequest


def at(request: HttpRequest) -> datetime | None:
    """None: never in this session. Only this session counts: a code given on another device says nothing here."""
    if not isinstance(request.user, User):
        return None
    given = [one["at"] for one in get_authentication_records(request, request.user) if one.get("method") == "mfa"]
    return datetime.fromtimestamp(max(given), UTC) if given else None


def has_one(user: User) -> bool:
    """Has this user set one up?"""
    from allauth.mfa.models import Authenticator  # needs the app registry

    return Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists()
