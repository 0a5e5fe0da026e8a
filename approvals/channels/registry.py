"""The channels of this server, as `settings.APPROVAL_CHANNELS` lists them."""

import logging
from collections.abc import Iterator
from functools import lru_cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from approvals.channels.base import Channel

log = logging.getLogger(__name__)

NAME_MAX = 12


def every() -> tuple[Channel, ...]:
    """Raises ImproperlyConfigured where a path leads to no channel, or two have one name."""
    found: list[Channel] = []
    for path in settings.APPROVAL_CHANNELS:
        channel = _load(path)
        if any(other.name == channel.name for other in found):
            raise ImproperlyConfigured(f"APPROVAL_CHANNELS: two channels are named {channel.name!r}.")
        found.append(channel)
    return tuple(found)


def active() -> list[Channel]:
    """Those that are set up. One that cannot be loaded is logged and left out: people still ask and decide."""
    return [channel for channel in _loadable() if channel.configured()]


def named(name: str) -> Channel | None:
    """None: it was taken out of the settings, or cannot be loaded."""
    return next((channel for channel in _loadable() if channel.name == name), None)


def _loadable() -> Iterator[Channel]:
    names: set[str] = set()
    for path in settings.APPROVAL_CHANNELS:
        try:
            channel = _load(path)
        except ImproperlyConfigured as error:
            log.error("approval.channel_broken", extra={"error": str(error)[:300]})
            continue
        if channel.name not in names:
            names.add(channel.name)
            yield channel


@lru_cache(maxsize=32)
def _load(path: str) -> Channel:
    """Raises ImproperlyConfigured."""
    try:
        channel = import_string(path)()
    except Exception as error:  # what a module of somebody's raises when it is loaded
        raise ImproperlyConfigured(f"APPROVAL_CHANNELS: {path}: {error}") from error
    if not isinstance(channel, Channel) or not 0 < len(channel.name) <= NAME_MAX:
        raise ImproperlyConfigured(f"APPROVAL_CHANNELS: {path} is no channel with a name of 1 to {NAME_MAX}.")
    return channel
