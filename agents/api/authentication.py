"""`Authorization: Bearer cs_…`."""

from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from agents import tokens
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
        if not tokens.well_formed(secret):
            raise AuthenticationFailed("This is no API token: it is mistyped or cut.", code="token_malformed")
        now = timezone.now()
        token = tokens.find(secret)
        if token is None:
            raise AuthenticationFailed("There is no such API token.", code="token_unknown")
        if token.revoked_at is not None:
            raise AuthenticationFailed("This API token was revoked.", code="token_revoked")
        if token.expires_at is not None and token.expires_at <= now:
            raise AuthenticationFailed("This API token has expired.", code="token_expired")
        if not token.user.is_active:
            raise AuthenticationFailed("The user of this API token is not active.", code="user_inactive")
        tokens.touch(token, now=now, address=str(request.META.get("REMOTE_ADDR") or ""))
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="countersign"'
