"""The channels of this server, as `settings.APPROVAL_CHANNELS` lists them."""

from functools import lru_cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from approvals.channels.base import Channel

NAME_MAX = 12


def every() -> tuple[Channel, ...]:
    """Raises ImproperlyConfigured where a path leads to no channel, or two have one name."""
    return _load(tuple(settings.APPROVAL_CHANNELS))


def active() -> list[Channel]:
    """Those that are set up."""
    return [channel for channel in every() if channel.configured()]


def named(name: str) -> Channel | None:
    """None: it was taken out of the settings."""
    return next((channel for channel in every() if channel.name == name), None)


@lru_cache(maxsize=8)
def _load(paths: tuple[str, ...]) -> tuple[Channel, ...]:
    found: list[Channel] = []
    for path in paths:
        try:
            channel = import_string(path)()
        except (ImportError, TypeError) as error:
            raise ImproperlyConfigured(f"APPROVAL_CHANNELS: {path}: {error}") from error
        if not isinstance(channel, Channel) or not 0 < len(channel.name) <= NAME_MAX:
            raise ImproperlyConfigured(f"APPROVAL_CHANNELS: {path} is no channel with a name of 1 to {NAME_MAX}.")
        if any(other.name == channel.name for other in found):
            raise ImproperlyConfigured(f"APPROVAL_CHANNELS: two channels are named {channel.name!r}.")
        found.append(channel)
    return tuple(found)
