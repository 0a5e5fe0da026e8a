"""`Authorization: Bearer cs_…`."""

from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from agents import tokens
from agents.errors import TokenRefused
from agents.models import ApiToken


class TokenAuthentication(BaseAuthentication):
    """`request.auth` is the `ApiToken`; what it may do is its scopes (see `audit.api.permissions.HasScope`).

    A header of another scheme is left to other classes; a bearer token that does not hold is refused.
    """

    keyword = "Bearer"

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """Raises AuthenticationFailed."""
        words = get_authorization_header(request).split()
        if not words or words[0].lower() != b"bearer":
            return None
        if len(words) != 2:
            raise AuthenticationFailed("Send one token: Authorization: Bearer cs_…", code="token_malformed")
        secret = words[1].decode("latin-1")
        now = timezone.now()
        try:
            token = tokens.good(secret, now=now)
        except TokenRefused as error:
            raise AuthenticationFailed(error.message, code=error.code) from None
        tokens.touch(token, now=now, address=str(request.META.get("REMOTE_ADDR") or ""))
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="countersign"'
