"""Pages of signing in, of second factors, and one's own."""

from functools import wraps
from typing import Any
from urllib.parse import urlencode, urlsplit

from allauth.account.utils import get_next_redirect_url
from allauth.account.views import LoginView
from allauth.account.views import ReauthenticateView as PasswordAgain
from allauth.mfa.base.views import AuthenticateView, ReauthenticateView
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.views import ViewRecoveryCodesView
from allauth.mfa.totp.views import ActivateTOTPView
from allauth.socialaccount.internal.flows.connect import disconnect
from allauth.socialaccount.models import SocialAccount
from csp.decorators import csp_update
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from agents.accounts import codes
from agents.accounts.forms import ActivateForm, CodeAgainForm, CodeForm, PasswordAgainForm, SignInForm
from agents.accounts.oidc import PROVIDER
from agents.models import ApiToken
from approvals.models import ChannelIdentity
from approvals.web.responses import private

PRIVATE: Any = private("same-origin")


def company(next_url: str = "", process: str = "") -> dict[str, str]:
    """The button to the company's accounts; empty where there are none."""
    if not settings.OIDC_ISSUER:
        return {}
    return {
        "name": settings.OIDC_NAME,
        "action": reverse("openid_connect_login", kwargs={"provider_id": PROVIDER}),
        "next": next_url,
        "process": process,
    }


def to_company(view: Any) -> Any:
    """Lets the page's form lead to the provider: browsers hold redirects of forms to `form-action` too."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        parts = urlsplit(settings.OIDC_ISSUER)
        told: Any = csp_update({"form-action": [f"{parts.scheme}://{parts.netloc}"]})(view) if parts.netloc else view
        answer: HttpResponse = told(request, *args, **kwargs)
        return answer

    return wrapped


class SignIn(LoginView):
    form_class = SignInForm
    template_name = "accounts/login.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        next_url = get_next_redirect_url(self.request) or ""
        return {**super().get_context_data(**kwargs), "next": next_url, "company": company(next_url)}


class Code(AuthenticateView):
    """The second factor, after the password."""

    form_class = CodeForm
    template_name = "accounts/code.html"


class StepUp(ReauthenticateView):
    """A fresh second factor, for what asks for one; then back to where it was asked."""

    form_class = CodeAgainForm
    template_name = "accounts/code.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {
            **super().get_context_data(**kwargs),
            "minutes": settings.STEP_UP_FRESH_S // 60,
            "again": self.get_next_url() or "",
        }


class Password(PasswordAgain):
    """The password, before the second factor itself is changed."""

    form_class = PasswordAgainForm
    template_name = "accounts/password.html"


@method_decorator(PRIVATE, name="dispatch")
class Activate(ActivateTOTPView):
    """Its secret stands in the page: nothing of it is kept anywhere. Then back to what asked for it, past the codes."""

    form_class = ActivateForm
    template_name = "accounts/set_up.html"

    def get_success_url(self) -> str:
        after: str = super().get_success_url()
        back = get_next_redirect_url(self.request)
        return f"{after}?{urlencode({'next': back})}" if back else after


@method_decorator(PRIVATE, name="dispatch")
class Recovery(ViewRecoveryCodesView):
    template_name = "accounts/recovery_codes.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), "back": get_next_redirect_url(self.request)}


@require_safe
@never_cache
@login_required
def profile(request: HttpRequest) -> HttpResponse:
    """Who one is here: groups, second factor, linked accounts, tokens."""
    user = request.user
    assert isinstance(user, User)
    factor = Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).first()
    context = {
        "groups": user.groups.order_by("name"),
        "factor": factor,
        "codes_left": codes.left(user),
        "step_up": settings.STEP_UP,
        "identities": ChannelIdentity.objects.filter(user=user).order_by("channel", "team"),
        "linked": SocialAccount.objects.filter(user=user).order_by("pk"),
        "company": company("/accounts/profile/", "connect"),
        "tokens": ApiToken.objects.filter(user=user, revoked_at=None).order_by("-created_at"),
    }
    return render(request, "accounts/profile.html", context)


@require_POST
@login_required
def unlink(request: HttpRequest, pk: int) -> HttpResponse:
    """Takes the link to the company's account away; asks for the password where it was not given lately."""
    disconnect(request, get_object_or_404(SocialAccount, pk=pk, user=request.user))
    return redirect("account_profile")
