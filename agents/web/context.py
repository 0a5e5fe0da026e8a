"""What every page's frame shows; a context processor (`TEMPLATES` names it)."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from approvals.selectors import inbox
from approvals.slack.api import interactive
from audit.api.permissions import may_read


def site(request: HttpRequest) -> dict[str, Any]:
    """`frame`: development, mailbox_enabled, version, time_zone, model, scripted, slack, auditor and pending_approvals.

    The count is what the signed-in user may decide now; it is asked for only where a template shows it.
    """
    user = getattr(request, "user", None)
    user = AnonymousUser() if user is None else user
    signed_in = user.is_authenticated
    return {
        "frame": {
            "development": getattr(settings, "DEVELOPMENT", False),
            "mailbox_enabled": settings.MAILBOX_ENABLED,
            "version": settings.VERSION,
            "time_zone": settings.TIME_ZONE,
            "model": settings.LLM_MODEL if signed_in else "",
            "scripted": settings.LLM_SCRIPTED,
            "slack": interactive(),
            "auditor": SimpleLazyObject(lambda: signed_in and may_read(user)),
            "pending_approvals": SimpleLazyObject(lambda: _pending(user) if signed_in else 0),
        }
    }


def _pending(user: Any) -> int:
    return inbox(user).count()
