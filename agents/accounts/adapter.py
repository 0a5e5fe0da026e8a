"""What allauth asks of the installation: nobody signs up, redirects stay here, secrets are encrypted."""

import base64
from functools import cache
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme

SAID = {
    "mfa/messages/totp_activated.txt": "Your second factor is set up. Keep the recovery codes somewhere safe.",
    "mfa/messages/totp_deactivated.txt": "Your second factor is removed.",
    "mfa/messages/recovery_codes_generated.txt": "Recovery codes were made; any older ones count no more.",
    "socialaccount/messages/account_connected.txt": "Your company account is linked.",
    "socialaccount/messages/account_connected_other.txt": "That company account is linked to somebody else here.",
    "socialaccount/messages/account_disconnected.txt": "Your company account is not linked any more.",
}


class Accounts(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Never by a form: administrators add people, or the company's accounts do (`agents.accounts.oidc`)."""
        return False

    def is_safe_url(self, url: str) -> bool:
        """Paths of this server alone."""
        request = context.request
        return url_has_allowed_host_and_scheme(
            url, allowed_hosts={request.get_host()}, require_https=request.is_secure()
        )

    def add_message(
        self, request: HttpRequest, level: int, message_template: str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """In our words, and only where something changed: that one has signed in is seen."""
        words = SAID.get(message_template or "")
        if words:
            messages.add_message(request, level, words)


class SecondFactors(DefaultMFAAdapter):
    def get_totp_issuer(self) -> str:
        return str(settings.SITE_NAME)

    def get_totp_label(self, user: Any) -> str:
        return str(user.get_username())

    def encrypt(self, text: str) -> str:
        """Whoever reads the database alone reads no secret. The key follows from SECRET_KEY."""
        return _cipher().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Raises cryptography.fernet.InvalidToken where SECRET_KEY was changed without a fallback."""
        return _cipher().decrypt(encrypted_text.encode()).decode()


def _cipher() -> MultiFernet:
    return MultiFernet([_fernet(key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


@cache
def _fernet(key: str) -> Fernet:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"countersign second factor").derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
