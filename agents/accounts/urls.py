"""Addresses of signing in, by the names that allauth asks for. No address signs anybody up or resets a password."""

from allauth.account.views import account_inactive
from allauth.mfa.recovery_codes.views import download_recovery_codes, generate_recovery_codes
from allauth.mfa.totp.views import deactivate_totp
from django.contrib.auth.views import LogoutView
from django.urls import path
from django.views.generic import RedirectView

from agents.accounts import oidc, views

urlpatterns = [
    path("login/", views.to_company(views.SignIn.as_view()), name="account_login"),
    path("logout/", LogoutView.as_view(), name="account_logout"),
    path("inactive/", account_inactive, name="account_inactive"),
    path("profile/", views.to_company(views.profile), name="account_profile"),
    path("reauthenticate/", views.Password.as_view(), name="account_reauthenticate"),
    path("oidc/<slug:provider_id>/login/", oidc.login, name="openid_connect_login"),
    path("oidc/<slug:provider_id>/callback/", oidc.callback, name="openid_connect_callback"),
    path("oidc/<int:pk>/unlink/", views.unlink, name="account_unlink"),
    path("oidc/cancelled/", RedirectView.as_view(pattern_name="account_login"), name="socialaccount_login_cancelled"),
    path("linked/", RedirectView.as_view(pattern_name="account_profile"), name="socialaccount_connections"),
    path("2fa/", RedirectView.as_view(pattern_name="account_profile"), name="mfa_index"),
    path("2fa/code/", views.Code.as_view(), name="mfa_authenticate"),
    path("2fa/again/", views.StepUp.as_view(), name="mfa_reauthenticate"),
    path("2fa/set-up/", views.Activate.as_view(), name="mfa_activate_totp"),
    path("2fa/remove/", deactivate_totp, name="mfa_deactivate_totp"),
    path("2fa/recovery-codes/", views.Recovery.as_view(), name="mfa_view_recovery_codes"),
    path("2fa/recovery-codes/new/", generate_recovery_codes, name="mfa_generate_recovery_codes"),
    path("2fa/recovery-codes/file/", download_recovery_codes, name="mfa_download_recovery_codes"),
]
