"""How what people decide reaches what waits for it, without this app knowing what that is.

Each callback is called in the transaction of the change, with the request's row locked; what it raises rolls the change
back. Registering the same one twice has no effect.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User

from approvals.models import ApprovalRequest, Comment

Callback = Callable[[ApprovalRequest], None]
OnTakenBack = Callable[[ApprovalRequest, datetime], None]
OnEdit = Callable[[ApprovalRequest, Mapping[str, Any], User, datetime], None]
OnAskedBack = Callable[[Comment, datetime], bool]

_callbacks: list[Callback] = []
_when_requested: list[Callback] = []
_when_taken_back: list[OnTakenBack] = []
_when_edited: list[OnEdit] = []
_when_asked_back: list[OnAskedBack] = []


def on_requested(callback: Callback) -> None:
    """Registers `callback(request)`, called in the asking transaction."""
    if callback not in _when_requested:
        _when_requested.append(callback)


def requested(request: ApprovalRequest) -> None:
    """Tells everybody who registered."""
    for callback in _when_requested:
        callback(request)


def on_decided(callback: Callback) -> None:
    """Registers `callback(request)`, called when a request is approved, denied or expired."""
    if callback not in _callbacks:
        _callbacks.append(callback)


def decided(request: ApprovalRequest) -> None:
    """Tells everybody who registered."""
    for callback in _callbacks:
        callback(request)


def forget(callback: Callback) -> None:
    """Takes a callback of `on_decided` out again. Raises ValueError where it was not registered."""
    _callbacks.remove(callback)


def on_taken_back(callback: OnTakenBack) -> None:
    """Registers `callback(request, now)`, called when an approved request is pending again.

    It raises `TooLate` where what was approved has begun.
    """
    if callback not in _when_taken_back:
        _when_taken_back.append(callback)


def taken_back(request: ApprovalRequest, now: datetime) -> None:
    """Tells everybody who registered. Raises TooLate."""
    for callback in _when_taken_back:
        callback(request, now)


def on_edit(callback: OnEdit) -> None:
    """Registers `callback(request, arguments, by, now)`, which gives the subject these arguments and has it decided on
    anew: it closes the request as void.

    It raises `InvalidEdit` or `TooLate` where that cannot be.
    """
    if callback not in _when_edited:
        _when_edited.append(callback)


def edited(request: ApprovalRequest, arguments: Mapping[str, Any], by: User, now: datetime) -> None:
    """Tells everybody who registered. Raises InvalidEdit, TooLate."""
    for callback in _when_edited:
        callback(request, arguments, by, now)


def on_asked_back(callback: OnAskedBack) -> None:
    """Registers `callback(comment, now)`: True where somebody (an agent) was given the question to answer."""
    if callback not in _when_asked_back:
        _when_asked_back.append(callback)


def asked_back(comment: Comment, now: datetime) -> bool:
    """Did anybody who registered take the question?"""
    return any(callback(comment, now) for callback in _when_asked_back)
