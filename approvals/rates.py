"""How often something happened lately, counted in Redis: what bounds guessing and flooding.

A count lives for one window of time and is lost with Redis, which costs nothing but the bound.
"""

import logging
import time
from dataclasses import dataclass
from functools import lru_cache

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)

AWAY_S = 5.0  # without Redis nothing is counted; it is asked again after this

_UNDO = "if redis.call('exists', KEYS[1]) == 1 then redis.call('decr', KEYS[1]) end"

_away_until = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """count: in this window, this one included; left_s: seconds until the window ends, at least 1."""

    count: int
    left_s: int


@lru_cache(maxsize=1)
def client() -> redis.Redis:
    """A client that never retries by itself: a replayed write would be a second write."""
    return redis.Redis.from_url(
        settings.REDIS_URL, retry=Retry(NoBackoff(), 0), socket_timeout=2, socket_connect_timeout=1
    )


def hit(name: str, *, window_s: int) -> Hits:
    """Counts one under `name`; the first begins a window. While Redis is away every count is 0."""
    global _away_until
    if time.monotonic() < _away_until:
        return Hits(count=0, left_s=1)
    try:
        with client().pipeline(transaction=True) as together:
            together.set(_key(name), 0, ex=window_s, nx=True)
            together.incr(_key(name))
            together.ttl(_key(name))
            _, count, left_s = together.execute()
    except (redis.RedisError, OSError) as error:
        _away_until = time.monotonic() + AWAY_S
        log.warning("rates.uncounted", extra={"error": type(error).__name__})
        return Hits(count=0, left_s=1)
    return Hits(count=count, left_s=max(1, left_s))


def seen(name: str) -> Hits:
    """How many stand under `name`, counting none. While Redis is away 0."""
    if time.monotonic() < _away_until:
        return Hits(count=0, left_s=1)
    try:
        count, left_s = client().get(_key(name)), client().ttl(_key(name))
    except (redis.RedisError, OSError) as error:
        log.warning("rates.uncounted", extra={"error": type(error).__name__})
        return Hits(count=0, left_s=1)
    return Hits(count=int(count or 0), left_s=max(1, int(left_s)))


def undo(name: str) -> None:
    """Takes one hit of the running window back; a window that has ended meanwhile stays ended."""
    try:
        client().eval(_UNDO, 1, _key(name))
    except (redis.RedisError, OSError) as error:
        log.warning("rates.uncounted", extra={"error": type(error).__name__})


def forget(name: str) -> None:
    """Ends the window of `name`."""
    try:
        client().delete(_key(name))
    except (redis.RedisError, OSError) as error:
        log.warning("rates.uncounted", extra={"error": type(error).__name__})


def _key(name: str) -> str:
    return f"countersign:rate:{name}"
