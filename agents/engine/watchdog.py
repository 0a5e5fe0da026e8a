"""Alive but not consuming: a small message (a canary) every few seconds shows that each queue is consumed.

A worker that beats, has a free thread, and takes nothing although a canary waits in its queue, is told to restart. A
worker whose threads are all busy is left alone, and so is everybody while canaries cannot be sent.
"""

import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import connection
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from agents import workers
from agents.engine import quarantine
from agents.models import Canary, WorkerProcess
from audit.actor import Actor

log = logging.getLogger(__name__)

TASK = "agents.canary"
WATCHDOG = Actor.system("watchdog")
LOOK_EVERY_S = 2.0
SENDS_LEAST = 2  # a broker may have lost one
UNWATCHED_LEAST_S = 10  # a shorter pause between two canaries is a slow machine
STARVED = 3  # limits after which a canary must have come through, whatever else the worker takes meanwhile
SHARED = 4  # limits, for each worker of a queue, in which an idle one takes at least one of its canaries

_SEND = """
    INSERT INTO agents_canary AS c (queue, number, sent_at, since, sends, taken_by)
    VALUES (%(queue)s, 1, %(now)s, %(now)s, 1, '')
    ON CONFLICT (queue) DO UPDATE
       SET number = c.number + 1, sent_at = excluded.sent_at,
           since = CASE WHEN c.since IS NULL OR c.sent_at < %(unwatched)s THEN excluded.since ELSE c.since END,
           sends = CASE WHEN c.since IS NULL OR c.sent_at < %(unwatched)s THEN 1 ELSE c.sends + 1 END
     WHERE c.sent_at <= %(now)s - make_interval(secs => %(every)s)
"""

_looked_at = 0.0


def watch(now: datetime) -> int:
    """The sweeper's part: sends canaries that are due, and tells workers that do not consume to restart; how many."""
    global _looked_at
    if not settings.CANARY_EVERY_S or time.monotonic() - _looked_at < LOOK_EVERY_S:
        return 0
    _looked_at = time.monotonic()
    alive = list(workers.living(now))
    send({queue for one in alive for queue in one.queues}, now=now)
    workers.forget_stale(now)
    return restart(stuck(alive, now=now), now=now)


def send(queues: set[str], *, now: datetime) -> int:
    """Sends a canary to each queue whose last one is old enough; how many. A broker that is away gets none, and an
    unsent canary is no evidence; nor is one of before a time in which nobody sent any: it may be lost since."""
    sent, every = 0, settings.CANARY_EVERY_S
    unwatched = now - timedelta(seconds=max(settings.CANARY_LIMIT_S, 3 * every, UNWATCHED_LEAST_S))
    for queue in sorted(queues):
        with connection.cursor() as cursor:  # before it is sent: whoever takes it at once finds the row
            cursor.execute(_SEND, {"queue": queue, "now": now, "every": every, "unwatched": unwatched})
            if not cursor.rowcount:
                continue
        try:
            current_app.send_task(TASK, args=[queue], queue=queue, ignore_result=True, expires=settings.CANARY_LIMIT_S)
        except (KombuError, RedisError, OSError) as error:
            log.warning("canary.not_sent", extra={"queue": queue, "error": type(error).__name__})
            Canary.objects.filter(pk=queue).update(since=None, sends=0)
            continue
        sent += 1
    return sent


def taken(queue: str, *, by: str, now: datetime) -> None:
    """A worker took a canary."""
    Canary.objects.filter(pk=queue).update(taken_at=now, taken_by=by, since=None, sends=0)


def stuck(alive: Sequence[WorkerProcess], *, now: datetime) -> list[tuple[WorkerProcess, str]]:
    """Workers that do not consume, each with the reason."""
    canaries = {one.queue: one for one in Canary.objects.all()}
    serving: dict[str, int] = {}
    for one in alive:
        for queue in one.queues:
            serving[queue] = serving.get(queue, 0) + 1
    found = []
    for one in alive:
        why = next(filter(None, (_why(one, queue, canaries, serving[queue], now) for queue in one.queues)), "")
        if why:
            found.append((one, why))
    return found


def _why(worker: WorkerProcess, queue: str, canaries: dict[str, Canary], serving: int, now: datetime) -> str:
    canary = canaries.get(queue)
    limit = timedelta(seconds=settings.CANARY_LIMIT_S)
    if canary is None or worker.told or worker.draining or worker.busy >= worker.threads:
        return ""
    if now - worker.started_at < limit:
        return ""
    last = worker.consumed_at or worker.started_at
    if canary.since is not None and canary.sends >= SENDS_LEAST:
        waited = now - canary.since
        if waited > limit and (last < canary.since or waited > STARVED * limit):
            return f"{queue}: nobody took a canary for {waited.seconds} s, and it has a free thread"
    others = serving > 1 and canary.taken_at is not None and now - canary.taken_at < limit
    if others and worker.busy == 0 and now - last > SHARED * serving * limit:
        return f"{queue}: others take its canaries, and it took nothing for {(now - last).seconds} s"
    return ""


def restart(found: Sequence[tuple[WorkerProcess, str]], *, now: datetime) -> int:
    """Tells them, with an audit record each."""
    for worker, why in found:
        log.error("worker.not_consuming", extra={"worker": worker.name, "why": why})
        workers.tell([worker.name], WorkerProcess.Told.RESTART, why=why, by=WATCHDOG, now=now)
    return len(found)


def parts() -> list[tuple[str, Any]]:
    """What the sweeper does for workers."""
    return [("lost_handlings", quarantine.reap_silent), ("restarted_workers", watch)]
