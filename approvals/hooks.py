"""How a decision reaches what waits for it, without this app knowing what that is."""

from collections.abc import Callable

from approvals.models import ApprovalRequest

Callback = Callable[[ApprovalRequest], None]

_callbacks: list[Callback] = []
_when_requested: list[Callback] = []


def on_requested(callback: Callback) -> None:
    """Registers `callback(request)`, called in the asking transaction. Registering the same one twice has no effect."""
    if callback not in _when_requested:
        _when_requested.append(callback)


def requested(request: ApprovalRequest) -> None:
    """Tells everybody who registered."""
    for callback in _when_requested:
        callback(request)


def on_decided(callback: Callback) -> None:
    """Registers `callback(request)`, called in the deciding transaction when a request is approved, denied or expired.

    What it raises rolls the decision back. Registering the same one twice has no effect.
    """
    if callback not in _callbacks:
        _callbacks.append(callback)


def decided(request: ApprovalRequest) -> None:
    """Tells everybody who registered."""
    for callback in _callbacks:
        callback(request)


def forget(callback: Callback) -> None:
    """Takes a callback out again. Raises ValueError where it was not registered."""
    _callbacks.remove(callback)
