"""What Django itself does is recorded too: signing in and out, failing to, and every change in the admin."""

import json
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import transaction
from django.db.models.signals import post_save
from django.http import HttpRequest

from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

_ACTIONS = {ADDITION: "added", CHANGE: "changed", DELETION: "deleted"}
_ANYBODY = Actor.system("anonymous")


def connect() -> None:
    """Called once, when the app is ready."""
    user_logged_in.connect(_signed_in, dispatch_uid="audit.signed_in")
    user_logged_out.connect(_signed_out, dispatch_uid="audit.signed_out")
    user_login_failed.connect(_failed, dispatch_uid="audit.failed")
    post_save.connect(_admin_changed, sender=LogEntry, dispatch_uid="audit.admin_changed")


def _signed_in(sender: Any, request: HttpRequest | None, user: Any, **_: Any) -> None:
    with transaction.atomic():
        record(
            Event.AUTH_SIGNED_IN,
            actor=Actor.user(user.pk),
            target=Target(type="user", id=str(user.pk)),
            payload=_origin(request),
        )


def _signed_out(sender: Any, request: HttpRequest | None, user: Any, **_: Any) -> None:
    if user is None:
        return
    with transaction.atomic():
        record(
            Event.AUTH_SIGNED_OUT,
            actor=Actor.user(user.pk),
            target=Target(type="user", id=str(user.pk)),
            payload=_origin(request),
        )


def _failed(sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    """The name that was typed is personal, and may be a password typed into the wrong field: it can be erased."""
    model = get_user_model()
    name = _text(credentials.get(model.USERNAME_FIELD))
    with transaction.atomic():
        known = model._default_manager.filter(**{model.USERNAME_FIELD: name}).values_list("pk", flat=True).first()
        record(
            Event.AUTH_FAILED,
            actor=_ANYBODY,
            target=Target(type="user", id="unknown" if known is None else str(known)),
            outcome="refused",
            payload={"name": name, **_origin(request)},
        )


def _admin_changed(sender: Any, instance: LogEntry, created: bool, raw: bool = False, **_: Any) -> None:
    if not created or raw:
        return
    kind = instance.content_type
    try:
        changes = json.loads(instance.change_message or "[]")
    except ValueError:
        changes = instance.change_message
    with transaction.atomic():
        record(
            Event.ADMIN_CHANGED,
            actor=Actor.user(instance.user_id),
            target=Target(
                type="unknown" if kind is None else f"{kind.app_label}.{kind.model}", id=_text(instance.object_id)
            ),
            context={"action": _ACTIONS.get(instance.action_flag, "unknown")},
            payload={"object": _text(instance.object_repr), "changes": changes},
        )


def _origin(request: HttpRequest | None) -> dict[str, str]:
    """Where a request came from, as far as the server can tell."""
    if request is None:
        return {}
    return {
        "address": _text(request.META.get("REMOTE_ADDR")),
        "browser": _text(request.META.get("HTTP_USER_AGENT")),
    }


def _text(value: object) -> str:
    """Text that JSON and PostgreSQL can hold, at most 300 characters."""
    return str("" if value is None else value)[:300].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
