"""Second factors and linked accounts in the audit log: given, refused, set up, taken away."""

from typing import Any

from allauth.mfa import signals as mfa
from allauth.socialaccount import signals as social
from django.db import transaction
from django.http import HttpRequest

from agents.accounts.throttle import address_of
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event


def connect() -> None:
    """Called once, when the app is ready."""
    mfa.authenticator_used.connect(_used, dispatch_uid="accounts.used")
    mfa.authentication_failed.connect(_refused, dispatch_uid="accounts.refused")
    for signal, outcome in (
        (mfa.authenticator_added, "added"),
        (mfa.authenticator_removed, "removed"),
        (mfa.authenticator_reset, "renewed"),
    ):
        signal.connect(_changed(outcome), weak=False, dispatch_uid=f"accounts.{outcome}")
    social.social_account_added.connect(_linked, dispatch_uid="accounts.linked")
    social.social_account_removed.connect(_unlinked, dispatch_uid="accounts.unlinked")


def _used(sender: Any, request: HttpRequest, user: Any, authenticator: Any, reauthenticated: bool, **_: Any) -> None:
    _record("given", request, user, authenticator, again=reauthenticated)


def _refused(sender: Any, request: HttpRequest, user: Any, reauthentication: bool = False, **_: Any) -> None:
    _record("refused", request, user, None, again=reauthentication)


def _changed(outcome: str) -> Any:
    def changed(sender: Any, request: HttpRequest, user: Any, authenticator: Any, **_: Any) -> None:
        _record(outcome, request, user, authenticator)

    return changed


def _record(outcome: str, request: HttpRequest, user: Any, authenticator: Any, *, again: bool = False) -> None:
    with transaction.atomic():
        record(
            Event.AUTH_SECOND_FACTOR,
            actor=Actor.user(user.pk),
            target=Target(type="user", id=str(user.pk)),
            outcome=outcome,
            context={"type": str(authenticator.type) if authenticator is not None else "", "again": again},
            payload={"address": address_of(request)},
        )


def _linked(sender: Any, request: HttpRequest, sociallogin: Any, **_: Any) -> None:
    _identity(Event.IDENTITY_LINKED, sociallogin.user, sociallogin.account)


def _unlinked(sender: Any, request: HttpRequest, socialaccount: Any, **_: Any) -> None:
    _identity(Event.IDENTITY_UNLINKED, request.user, socialaccount)


def _identity(event: Event, user: Any, account: Any) -> None:
    with transaction.atomic():
        record(
            event,
            actor=Actor.user(user.pk),
            target=Target(type="user", id=str(user.pk)),
            context={"channel": "oidc"},
            payload={"subject": str(account.uid)[:300]},
        )
