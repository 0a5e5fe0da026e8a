"""The door of the broker's queues: how short they are, and whether rows wait behind them (see `agents.engine.release`).

Redis's mark of a queue is a number that grows with each row that begins to wait; a releaser that finds nobody takes
away the mark that it saw before it looked, and no newer one.
"""

import logging
import time
from datetime import timedelta
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.utils import timezone
from redis.exceptions import RedisError

from agents import feed
from agents.models import Step, Tenant, WorkerProcess

log = logging.getLogger(__name__)

CHANNEL = "countersign:backlog"
KEYS = "keys"  # marked like a queue where a concurrency key was given up
BATCH = 256  # released in one transaction, where the window allows as many
SEEN_WITHIN = timedelta(seconds=30)
THREADS_KNOWN_FOR_S = 5.0
CAPS_KNOWN_FOR_S = 1.0
SHUT_FOR_S = 0.25  # a queue that took nothing is not asked again for so long where rows are written that may wait

# 1: the queue (KEYS[1]) is shorter than ARGV[1], and nobody waits behind it (KEYS[2]).
_OPEN = "if redis.call('EXISTS', KEYS[2]) == 1 or redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end return 1"
_UNMARK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def admits(queue: str) -> bool:
    """May a step go straight to the broker? One command to Redis; where Redis is away, publishing itself will tell."""
    most = window(queue)
    if not most:
        return True
    try:
        if not _on_redis():
            return not feed.client().exists(mark(queue)) and _depth(queue) < most
        return bool(feed.client().eval(_OPEN, 2, queue, mark(queue), most))
    except (RedisError, OSError):
        return True


# When (`time.monotonic()`) a queue last took nothing from this process.
_shut: dict[str, float] = {}


def shut(queue: str) -> None:
    """Remembers that the queue is full, or that rows wait behind it."""
    _shut[queue] = time.monotonic()


def lately_shut(queue: str) -> bool:
    """It took nothing a moment ago: a row may be written as one that waits at once."""
    return time.monotonic() - _shut.get(queue, -SHUT_FOR_S) < SHUT_FOR_S


def capped(tenant_id: int | None) -> bool:
    """The tenant has a bound on what runs: all that it has goes through `release`, which counts."""
    return tenant_id is not None and tenant_id in _capped(int(time.monotonic() / CAPS_KNOWN_FOR_S))


def note(queue: str) -> None:
    """Says that a row waits behind `queue`; to be called once its row is committed without `dispatched_at`."""
    try:
        with feed.client().pipeline(transaction=False) as pipe:
            pipe.incr(mark(queue))
            pipe.publish(CHANNEL, queue)
            pipe.execute()
    except (RedisError, OSError) as error:
        log.debug("release.unmarked", extra={"queue": queue, "error": type(error).__name__})


def marked(queue: str) -> bytes | None:
    """The mark's value, to hand to `unmark`; None: nobody is known to wait. Raises RedisError, OSError."""
    found = feed.client().get(mark(queue))
    return found if isinstance(found, bytes) else None


def set_mark(queue: str) -> None:
    """Raises RedisError, OSError."""
    feed.client().incr(mark(queue))


def unmark(queue: str, seen: bytes | str) -> None:
    """Nobody waits any more: takes the mark away, where nobody has set it anew since. Raises RedisError, OSError."""
    feed.client().eval(_UNMARK, 1, mark(queue), seen)


def mark(queue: str) -> str:
    """Redis's key that is there while rows wait behind `queue`."""
    return f"countersign:backlog:{queue}"


def window(queue: str) -> int:
    """How many messages may lie in `queue`; 0: any number."""
    return settings.RELEASE_WINDOW * _threads(queue, int(time.monotonic() / THREADS_KNOWN_FOR_S))


def room(queue: str) -> int:
    """How many messages more the queue may hold now. Raises RedisError, OSError."""
    most = window(queue)
    return max(0, most - _depth(queue)) if most else BATCH


def _depth(queue: str) -> int:
    """Messages that lie in the queue; at a broker that is not Redis, the steps that were sent and not begun."""
    if _on_redis():
        return int(feed.client().llen(queue))
    return Step.objects.filter(queue=queue, state__in=["queued", "ready"], dispatched_at__isnull=False).count()


def _on_redis() -> bool:
    return str(settings.CELERY_BROKER_URL).startswith(("redis", "unix"))


@lru_cache(maxsize=1)
def _capped(moment: int) -> frozenset[int]:
    return frozenset(Tenant.objects.filter(max_running__isnull=False).values_list("pk", flat=True))


@lru_cache(maxsize=64)
def _threads(queue: str, moment: int) -> int:
    """Threads that consume the queue, by the registry; at least what one worker of its group has."""
    groups: list[dict[str, Any]] = [dict(one) for one in settings.WORKER_GROUPS.values()]
    least = sum(int(one["threads"]) for one in groups if queue in one["queues"])
    alive = WorkerProcess.objects.filter(
        queues__contains=[queue], stopped_at__isnull=True, seen_at__gt=timezone.now() - SEEN_WITHIN
    )
    return max(1, least, sum(alive.values_list("threads", flat=True)))
