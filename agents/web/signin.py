"""Signing in: both doors, ours and the back office's, bound how often one address tries one name."""

import hashlib
import unicodedata
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest
from unfold.forms import AuthenticationForm as UnfoldAuthenticationForm

from agents import rates
from approvals.web.times import span
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

TRIES = 10
WINDOW_S = 300


def key(name: str, address: str) -> str:
    """What tries are counted under: no name stands in Redis, and spellings that look alike are one."""
    spelled = unicodedata.normalize("NFKC", name).strip().casefold()
    return "sign-in:" + hashlib.sha256(f"{spelled}\n{address}".encode()).hexdigest()


class _Bounded:
    """Counts a try before the password is looked at, so that many at once are no way around; the right password
    starts the count anew."""

    request: HttpRequest | None
    cleaned_data: dict[str, Any]

    def clean(self) -> dict[str, Any]:
        name, address = self.cleaned_data.get("username"), _address(self.request)
        if not name or not self.cleaned_data.get("password"):
            return super().clean()  # type: ignore[misc]
        tries = rates.hit(key(name, address), window_s=WINDOW_S)
        if tries.count > TRIES:
            if tries.count == TRIES + 1:
                _record(name, address)
            wait = span(tries.left_s) if tries.left_s >= 60 else f"{tries.left_s} seconds"
            raise forms.ValidationError(
                f"Too many tries to sign in with this name. Try again in {wait}.", code="throttled"
            )
        cleaned: dict[str, Any] = super().clean()  # type: ignore[misc]
        rates.forget(key(name, address))
        return cleaned


class SignInForm(_Bounded, AuthenticationForm):
    """The pages' form."""


class BackOfficeSignInForm(_Bounded, UnfoldAuthenticationForm):
    """The back office's form (`agents.admin.people` puts it there)."""


def _address(request: HttpRequest | None) -> str:
    return "" if request is None else str(request.META.get("REMOTE_ADDR", ""))


@transaction.atomic
def _record(name: str, address: str) -> None:
    """Once a window, so that a flood of tries is no flood of records."""
    known = User.objects.filter(username=name).values_list("pk", flat=True).first()
    record(
        Event.AUTH_FAILED,
        actor=Actor.system("anonymous"),
        target=Target(type="user", id="unknown" if known is None else str(known)),
        outcome="throttled",
        payload={"name": name[:300], "address": address[:300]},
    )
