"""Forms of signing in. Each counts a try before it looks at what was given."""

from typing import Any

from allauth.account.app_settings import EmailVerificationMethod
from allauth.account.internal.flows.login import perform_password_login
from allauth.account.models import Login
from allauth.core import context
from allauth.mfa import signals
from allauth.mfa.base.internal.flows import post_authentication
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from django import forms
from django.contrib.auth import authenticate
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse

from agents.accounts import codes, throttle

WRONG = "This code is not right, or it was used already."


class SignInForm(AuthenticationForm):
    """Name and password. The same answer whether or not there is such a name."""

    def clean(self) -> dict[str, Any]:
        name, address = self.cleaned_data.get("username"), throttle.address_of(self.request)
        if not name or not self.cleaned_data.get("password"):
            return super().clean()
        throttle.count(name, address)
        cleaned: dict[str, Any] = super().clean()
        throttle.right(name, address)
        return cleaned

    def login(self, request: HttpRequest, redirect_url: str | None = None) -> HttpResponse:
        """Signs in, or goes on to the second factor where the user has one."""
        login = Login(user=self.get_user(), redirect_url=redirect_url, email_verification=EmailVerificationMethod.NONE)
        return perform_password_login(request, {"username": self.get_user().get_username()}, login)


class CodeForm(forms.Form):
    """A code of the user's authenticator, or a recovery code."""

    again = False

    code = forms.CharField(
        label="Code",
        max_length=20,
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "autofocus": True, "spellcheck": "false"}
        ),
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        self.authenticator: Authenticator | None = None

    def clean_code(self) -> str:
        throttle.count_code(self.user)
        code: str = self.cleaned_data["code"]
        self.authenticator = codes.taken(self.user, code)
        if self.authenticator is None:
            signals.authentication_failed.send(
                sender=Authenticator,
                request=context.request,
                user=self.user,
                authenticator=None,
                reauthentication=self.again,
            )
            raise forms.ValidationError(WRONG, code="wrong")
        throttle.right_code(self.user)
        self.authenticator.user = self.user
        return code

    def save(self) -> None:
        post_authentication(context.request, self.authenticator, reauthenticated=self.again)


class CodeAgainForm(CodeForm):
    """The same of somebody who is signed in: before what takes a fresh second factor."""

    again = True


class ActivateForm(forms.Form):
    """The first code of a new authenticator shows that it holds the secret."""

    code = CodeForm.base_fields["code"]

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        self.secret = totp.get_totp_secret(regenerate=not self.is_bound)

    def clean_code(self) -> str:
        throttle.count_code(self.user)
        code = "".join(self.cleaned_data["code"].split())
        if not totp.validate_totp_code(self.secret, code):
            raise forms.ValidationError("This code is not right. Does the clock of your device go right?", code="wrong")
        throttle.right_code(self.user)
        return code


class PasswordAgainForm(forms.Form):
    """Before the second factor itself is changed."""

    password = forms.CharField(
        strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True})
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean_password(self) -> str:
        throttle.count_code(self.user)
        password: str = self.cleaned_data["password"]
        if authenticate(context.request, username=self.user.get_username(), password=password) != self.user:
            raise forms.ValidationError("This is not your password.", code="wrong")
        throttle.right_code(self.user)
        return password
