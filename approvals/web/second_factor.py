"""When the signed-in user last gave a second factor in this session."""

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from allauth.account.internal.flows.login import get_authentication_records
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from approvals.decisions import fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """What stands between this session and something that takes a fresh second factor. set_up: has the user one at
    all; address: where it is given, or set up."""

    set_up: bool
    address: str


def at(request: HttpRequest) -> datetime | None:
    """None: never in this session. Only this session counts: a code given on another device says nothing here."""
    if not isinstance(request.user, User):
        return None
    given = [one["at"] for one in get_authentication_records(request, request.user) if one.get("method") == "mfa"]
    return datetime.fromtimestamp(max(given), UTC) if given else None


def needed(request: HttpRequest, asked: bool, back_to: str) -> Factor | None:
    """What is to be given first, where `asked` and STEP_UP say that something is; None: nothing, or it was given.

    back_to: a path of this server, to which the page of the second factor returns.
    """
    if not asked or not settings.STEP_UP:
        return None
    if fresh(at(request), timezone.now()):
        return None
    if not has_one(request.user):  # type: ignore[arg-type]
        return Factor(set_up=False, address=f"{reverse('mfa_activate_totp')}?{urlencode({'next': back_to})}")
    return Factor(set_up=True, address=f"{reverse('mfa_reauthenticate')}?{urlencode({'next': back_to})}")


def has_one(user: User) -> bool:
    """Has this user set one up?"""
    return bool(Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists())
