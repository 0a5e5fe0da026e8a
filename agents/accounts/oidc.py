"""The company's accounts by OpenID Connect: one provider, named by settings.

An account there is linked to a user here by the user, signed in, on the profile page; or, with OIDC_SIGN_UP, a user is
made for an account that is not linked yet. Nothing is linked by name or address alone: whoever sets those at the
provider would be anybody here. Groups follow a claim only where OIDC_GROUPS names which.
"""

import logging
from typing import Any

from allauth.account.internal.decorators import login_not_required
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter, _build_apps_from_settings
from allauth.socialaccount.internal import jwtkit
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialLogin
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from requests import RequestException

from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

log = logging.getLogger(__name__)

PROVIDER = "sso"


class Companies(DefaultSocialAccountAdapter):
    def list_apps(self, request: HttpRequest, provider: Any = None, client_id: Any = None) -> list[SocialApp]:
        """Of the settings alone: a row in the database is no way to become anybody."""
        built = _build_apps_from_settings(provider=provider, client_id=client_id)
        return [app for apps in built.values() for app in apps]

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return bool(settings.OIDC_SIGN_UP)

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """The same refusal for whoever has no account here, is not active, or has an address that is taken."""
        if sociallogin.state.get("process") == "connect":
            if not request.user.is_authenticated:
                raise ImmediateHttpResponse(_refusal(request))
            return
        if sociallogin.is_existing:
            if not sociallogin.user.is_active:
                raise ImmediateHttpResponse(_refusal(request))
            follow_groups(sociallogin.user, sociallogin.account)
        elif not settings.OIDC_SIGN_UP or _taken(sociallogin.user):
            raise ImmediateHttpResponse(_refusal(request))

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        """The new user may do nothing until groups say so."""
        with transaction.atomic():
            user: User = super().save_user(request, sociallogin, form)
            record(
                Event.IDENTITY_LINKED,
                actor=Actor.user(user.pk),
                target=Target(type="user", id=str(user.pk)),
                context={"channel": "oidc", "new_user": True},
                payload={"subject": str(sociallogin.account.uid)[:300]},
            )
            follow_groups(user, sociallogin.account)
        return user

    def get_connect_redirect_url(self, request: HttpRequest, socialaccount: SocialAccount) -> str:
        return "/accounts/profile/"


class Checked(OpenIDConnectOAuth2Adapter):
    """As allauth's, and trusts no ID token without its signature, nor a provider that names another issuer."""

    @property
    def openid_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().openid_config
        if str(config.get("issuer", "")).rstrip("/") != settings.OIDC_ISSUER.rstrip("/"):
            raise OAuth2Error("The provider names another issuer than OIDC_ISSUER.")
        return config

    def _decode_id_token(self, app: SocialApp, id_token: str) -> dict[str, Any]:
        config = self.openid_config
        return dict(
            jwtkit.verify_and_decode(
                credential=id_token,
                keys_url=config["jwks_uri"],
                issuer=config["issuer"],
                audience=app.client_id,
                lookup_kid=jwtkit.lookup_kid_jwk,
                verify_signature=True,
            )
        )

    def complete_login(self, request: HttpRequest, app: SocialApp, token: Any, **kwargs: Any) -> SocialLogin:
        """Raises OAuth2Error without an ID token, or where the user info is of somebody else (OIDC Core, 5.3.2)."""
        login = super().complete_login(request, app, token, **kwargs)
        claims, info = (login.account.extra_data.get(name) for name in ("id_token", "userinfo"))
        if not claims:
            raise OAuth2Error("The provider gave no ID token.")
        if info and info.get("sub") != claims.get("sub"):
            raise OAuth2Error("The user info is of somebody else than the ID token.")
        return login


@login_not_required
def login(request: HttpRequest, provider_id: str) -> HttpResponse:
    """POST: on to the provider."""
    return _view(OAuth2LoginView, request, provider_id)


@login_not_required
def callback(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Back from the provider."""
    return _view(OAuth2CallbackView, request, provider_id)


def _view(kind: Any, request: HttpRequest, provider_id: str) -> HttpResponse:
    if provider_id != PROVIDER or not settings.OIDC_ISSUER:
        raise Http404("No company account is set up.")
    try:
        answer: HttpResponse = kind.adapter_view(Checked(request, provider_id))(request)
    except RequestException as error:
        log.warning("oidc.away", extra={"error": type(error).__name__})
        return render(request, "socialaccount/authentication_error.html", {"away": True}, status=503)
    except OAuth2Error as error:
        log.warning("oidc.refused", extra={"error": str(error)})
        return render(request, "socialaccount/authentication_error.html", status=401)
    return answer


def follow_groups(user: User, account: SocialAccount) -> None:
    """Of the groups that OIDC_GROUPS names, the user is in those that the claim gives, and in no other of them.

    Other groups, and what makes somebody staff or a superuser, are never touched. A change is recorded.
    """
    if not (settings.OIDC_GROUPS_CLAIM and settings.OIDC_GROUPS):
        return
    data = account.extra_data
    claim = (data.get("userinfo") or {}).get(settings.OIDC_GROUPS_CLAIM)
    if claim is None:
        claim = (data.get("id_token") or {}).get(settings.OIDC_GROUPS_CLAIM)
    given = {claim} if isinstance(claim, str) else {one for one in claim or [] if isinstance(one, str)}
    wanted = {group for value, group in settings.OIDC_GROUPS.items() if value in given}
    mapped = Group.objects.filter(name__in=settings.OIDC_GROUPS.values())
    with transaction.atomic():
        had = set(user.groups.filter(pk__in=mapped).values_list("name", flat=True))
        has = {group.name for group in mapped if group.name in wanted}
        if had == has:
            return
        user.groups.remove(*mapped.filter(name__in=had - has))
        user.groups.add(*mapped.filter(name__in=has - had))
        record(
            Event.ADMIN_CHANGED,
            actor=Actor.system("sign-in"),
            target=Target(type="auth.user", id=str(user.pk)),
            context={"action": "powers", "given": sorted(has - had), "taken": sorted(had - has), "by": "oidc"},
        )


def _taken(user: User) -> bool:
    """Somebody here has this address already."""
    return bool(user.email) and User.objects.filter(email__iexact=user.email).exists()


def _refusal(request: HttpRequest) -> HttpResponse:
    return render(request, "account/signup_closed.html", status=403)
