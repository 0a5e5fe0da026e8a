"""How often one caller may ask the API: a token, a signed-in user, or an address (`settings.API_RATES`, a minute)."""

from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from agents.models import ApiToken
from approvals import rates

WINDOW_S = 60


class Throttle(BaseThrottle):
    """Headers that a client can make up say nothing about who it is: an address is that of the connection."""

    left_s: int | None = None

    def allow_request(self, request: Request, view: Any) -> bool:
        kind, who = _caller(request)
        most = settings.API_RATES[kind]
        if not most:
            return True
        hits = rates.hit(f"api:{kind}:{who}", window_s=WINDOW_S)
        self.left_s = hits.left_s
        return hits.count <= most

    def wait(self) -> float | None:
        return self.left_s


def _caller(request: Request) -> tuple[str, str]:
    if isinstance(request.auth, ApiToken):
        return "token", str(request.auth.pk)
    if request.user.is_authenticated:
        return "user", str(request.user.pk)
    return "anonymous", str(request.META.get("REMOTE_ADDR", ""))
