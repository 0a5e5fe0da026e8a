"""Second factors and company accounts in the back office: who has which, and taking one away from who lost a phone."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from agents.admin.base import ReadOnly

# providers come from the settings alone, and addresses stand at the users
for unused in (EmailAddress, SocialApp, SocialToken, SocialAccount, Authenticator):
    if admin.site.is_registered(unused):
        admin.site.unregister(unused)


class TakenAwayOnly(ReadOnly):
    """Superusers take away what somebody signs in with; the log says so. Nobody sees what is secret in it."""

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_superuser)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_superuser)


@admin.register(Authenticator)
class AuthenticatorAdmin(TakenAwayOnly):
    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    search_fields = ("user__username",)
    fields: Any = ("user", "type", "created_at", "last_used_at")


@admin.register(SocialAccount)
class SocialAccountAdmin(TakenAwayOnly):
    list_display = ("user", "uid", "last_login", "date_joined")
    search_fields = ("user__username", "uid")
    fields: Any = ("user", "uid", "last_login", "date_joined")
