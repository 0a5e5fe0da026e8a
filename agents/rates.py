"""How often something happened lately, counted in Redis: what bounds guessing and flooding.

A count lives for one window of time and is lost with Redis, which costs nothing but the bound.
"""

import logging
import time
from dataclasses import dataclass

import redis

from agents.feed import client

log = logging.getLogger(__name__)

AWAY_S = 5.0  # without Redis nothing is counted; it is asked again after this

_away_until = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """count: in this window, this one included; left_s: seconds until the window ends, at least 1."""

    count: int
    left_s: int


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


def forget(name: str) -> None:
    """Ends the window of `name`."""
    try:
        client().delete(_key(name))
    except (redis.RedisError, OSError) as error:
        log.warning("rates.uncounted", extra={"error": type(error).__name__})


def _key(name: str) -> str:
    return f"countersign:rate:{name}"
