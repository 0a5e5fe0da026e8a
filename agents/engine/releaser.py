"""The thread in each worker process that releases behind the queues it serves, as soon as they run short."""

import logging
import threading
import time
from collections.abc import Sequence

from django.db import Error, connection
from django.utils import timezone
from redis.client import PubSub
from redis.exceptions import RedisError

from agents import feed
from agents.engine import backlog, keys, release

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.004  # while somebody waits
BLOCKED_EVERY_S = 0.1  # while all that wait are held back by a tenant's bound
IDLE_S = 1.0
AWAY_S = 1.0


class Releaser:
    """Sleeps on Redis's channel while nobody waits, so that what runs uncontended pays nothing for it."""

    def __init__(self, queues: Sequence[str]) -> None:
        self._queues = list(queues)
        self._stop = threading.Event()
        self._blocked_until: dict[str, float] = {}

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.run, name="releaser", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """It ends within `IDLE_S`."""
        self._stop.set()

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                with feed.client().pubsub(ignore_subscribe_messages=True) as heard:
                    heard.subscribe(backlog.CHANNEL)
                    self._listen(heard)
            except (RedisError, OSError, Error) as error:
                log.warning("release.away", extra={"error": type(error).__name__})
                connection.close()
                self._stop.wait(AWAY_S)
            except Exception:  # a bug here must not leave the queue to the sweeper alone
                log.exception("release.crashed")
                connection.close()
                self._stop.wait(AWAY_S)
        connection.close()

    def _listen(self, heard: PubSub) -> None:
        wait_s = 0.0
        while not self._stop.is_set():
            if heard.get_message(timeout=wait_s):
                self._blocked_until.clear()
            wait_s = self.once()

    def once(self) -> float:
        """Releases where there is room; in how many seconds to look again."""
        marks = feed.client().mget([backlog.mark(queue) for queue in [*self._queues, backlog.KEYS]])
        if (given_up := marks.pop()) is not None:
            keys.pass_on_all(timezone.now())
            backlog.unmark(backlog.KEYS, given_up)
        now = time.monotonic()
        waits = [IDLE_S]
        for queue, marked in zip(self._queues, marks, strict=True):
            blocked_until = self._blocked_until.get(queue, 0.0)
            if marked is None and not blocked_until:
                continue
            if blocked_until > now:
                waits.append(blocked_until - now)
                continue
            waits.append(self._release(queue))
        return min(waits)

    def _release(self, queue: str) -> float:
        self._blocked_until.pop(queue, None)
        if backlog.room(queue) * 2 < backlog.window(queue):
            return LOOK_EVERY_S  # in batches: half a window at least
        done = release.release(queue, now=timezone.now())
        if done.blocked and not done.left:
            self._blocked_until[queue] = time.monotonic() + BLOCKED_EVERY_S
            return BLOCKED_EVERY_S
        return LOOK_EVERY_S if done.left else IDLE_S
