"""Freeze windows: checked, saved and taken away, each with its record."""

from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from approvals.errors import InvalidPolicy
from approvals.models import FreezeWindow
from approvals.policy.match import valid
from approvals.policy.matching import EFFECTS
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

_TOLD = (
    *("name", "reason", "starts_at", "ends_at", "environments", "repositories", "tools", "effects", "effect"),
    *("approvers_id", "quorum", "enabled"),
)


def problems(window: FreezeWindow) -> list[tuple[str, str]]:
    """What keeps it from being saved, as (field, message)."""
    found: list[tuple[str, str]] = []
    if window.starts_at and window.ends_at and window.ends_at <= window.starts_at:
        found.append(("ends_at", "It must end after it starts."))
    if not window.tools:
        found.append(("tools", "It names no tool; * is every tool."))
    found += [("tools", f"{pattern!r} is no pattern of tool names.") for pattern in window.tools if not valid(pattern)]
    unknown = sorted(set(window.effects) - set(EFFECTS))
    if unknown:
        found.append(("effects", f"There is no effect {unknown[0]!r}: read, repeatable or once."))
    if window.effect == FreezeWindow.Effect.ASK:
        if window.approvers is None:
            found.append(("approvers", "It asks, and names no group of approvers."))
        elif window.approvers.user_set.filter(is_active=True).count() < window.quorum:
            found.append(("quorum", f"The group {window.approvers.name!r} has fewer active members than that."))
    return found


@transaction.atomic
def save(window: FreezeWindow, *, by: User) -> FreezeWindow:
    """Writes it, new or changed; from the commit on every decision goes by it, and what is queued is decided on anew.

    Raises:
        InvalidPolicy: `problems` names each.
    """
    found = problems(window)
    if found:
        raise InvalidPolicy("This freeze window cannot be saved.", problems=found)
    action = "created" if window._state.adding else "changed"
    window.save()
    _record(window, action, by=by)
    return window


@transaction.atomic
def delete(window: FreezeWindow, *, by: User) -> None:
    """Takes it away."""
    _record(window, "deleted", by=by)
    window.delete()


def _record(window: FreezeWindow, action: str, *, by: User) -> None:
    facts: dict[str, Any] = {name: getattr(window, name) for name in _TOLD}
    facts |= {name: facts[name].isoformat() for name in ("starts_at", "ends_at")}
    record(
        Event.FREEZE_CHANGED,
        actor=Actor.user(by.pk),
        target=Target(type="freeze_window", id=str(window.pk)),
        context={"action": action, **{name: facts[name] for name in ("name", "starts_at", "ends_at", "effect")}},
        payload=facts,
    )
