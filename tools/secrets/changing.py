"""Handles are made and taken out of use, with a record of who did."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from tools.errors import InvalidArguments, ToolRefused
from tools.secrets.models import SecretHandle


@transaction.atomic
def add(*, actor: Actor, **fields: Any) -> SecretHandle:
    """A new handle.

    Raises:
        InvalidArguments: a field is wrong; `field` says which.
    """
    handle = SecretHandle(**fields)
    try:
        handle.full_clean()
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise InvalidArguments(" ".join(messages), field=field) from None
    handle.save()
    lists = {name: list(getattr(handle, name)) for name in ("tools", "agents", "groups", "hosts", "env_names")}
    _record(handle, actor, "added", **lists)
    return handle


@transaction.atomic
def set_enabled(name: str, *, enabled: bool, actor: Actor) -> SecretHandle:
    """Lets a handle be used, or not any more.

    Raises:
        ToolRefused: there is no such handle.
    """
    handle = SecretHandle.objects.select_for_update().filter(name=name).first()
    if handle is None:
        raise ToolRefused(f"There is no secret {name!r}.", secret=name)
    if handle.enabled != enabled:
        handle.enabled = enabled
        handle.save(update_fields=["enabled"])
        _record(handle, actor, "enabled" if enabled else "disabled")
    return handle


def _record(handle: SecretHandle, actor: Actor, action: str, **facts: Any) -> None:
    record(
        Event.ADMIN_CHANGED,
        actor=actor,
        target=Target(type="tools.secrethandle", id=str(handle.pk)),
        context={"action": action, "name": handle.name, **facts},
    )
