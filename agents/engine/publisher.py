"""Celery's message for a step, made by hand and pushed by one command.

Publishing through Celery and kombu costs a quarter of a millisecond, mostly for what never differs between our
messages. A test holds this form against what Celery itself would send, field by field. At a broker that is not Redis
everything goes through `send_task`.
"""

import base64
import json
import logging
import os
import socket
from collections.abc import Sequence
from functools import lru_cache
from uuid import UUID, uuid4

import redis
from celery import current_app
from django.conf import settings
from kombu.exceptions import KombuError
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from agents import feed
from agents.engine import backlog

log = logging.getLogger(__name__)

Message = tuple[str, UUID, int]
"""(task, step id, attempt)"""

# Pushes where the queue (KEYS[1]) is shorter than ARGV[1] (0: any length) and nobody waits behind it (KEYS[2]).
_PUSH = """
if ARGV[1] ~= '0' and (redis.call('EXISTS', KEYS[2]) == 1 or redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1])) then
  return 0
end
redis.call('LPUSH', KEYS[1], ARGV[2])
return 1
"""


def by_hand() -> bool:
    """Is the broker one to whose queues we may push?"""
    options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    return str(settings.CELERY_BROKER_URL).startswith(("redis://", "unix://")) and not options.get("global_keyprefix")


def push(queue: str, messages: Sequence[Message]) -> int:
    """Publishes in order, whatever the queue's length; how many the broker took."""
    if not messages:
        return 0  # those that waited were taken or are not due yet; LPUSH of nothing is an error
    if not by_hand():
        return next((done for done, one in enumerate(messages) if not _by_celery(queue, one)), len(messages))
    try:
        client().lpush(queue, *(encode(queue, *one) for one in messages))
    except (RedisError, OSError) as error:
        _failed(queue, error)
        return 0
    return len(messages)


def push_and_wake(messages: Sequence[tuple[str, Message]], feeds: dict[UUID, int]) -> list[tuple[str, Message]]:
    """Publishes `(queue, message)` where queues are short, and wakes who reads these feeds, by one command to Redis.

    Gives those that were not published.
    """
    if not by_hand():
        feed.wake_all(feeds)
        return [one for one in messages if not (backlog.admits(one[0]) and _by_celery(*one))]
    try:
        with client().pipeline(transaction=False) as pipe:
            for queue, one in messages:
                pipe.eval(_PUSH, 2, queue, backlog.mark(queue), backlog.window(queue), encode(queue, *one))
            for job_id, seq in feeds.items():
                pipe.publish(feed.channel(job_id), str(seq))
            answers = pipe.execute()
    except (RedisError, OSError) as error:
        _failed(messages[0][0] if messages else "", error)
        return list(messages)
    left = [one for one, taken in zip(messages, answers, strict=False) if not taken]
    for queue in {queue for queue, _ in left}:
        backlog.shut(queue)
    return left


def encode(queue: str, task: str, step_id: UUID, attempt: int) -> str:
    """The text that lies in the queue's list."""
    identifier = str(uuid4())
    arguments = f'["{step_id}", {attempt}]'
    body = f'[{arguments}, {{}}, {{"callbacks": null, "errbacks": null, "chain": null, "chord": null}}]'
    headers: dict[str, object] = {
        "lang": "py",
        "task": task,
        "id": identifier,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": identifier,
        "parent_id": None,
        "argsrepr": f"['{step_id}', {attempt}]",
        "kwargsrepr": "{}",
        "origin": _origin(os.getpid()),
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": {
                "correlation_id": identifier,
                "reply_to": _REPLY_TO,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
            },
        }
    )


@lru_cache(maxsize=1)
def client() -> redis.Redis:
    """Of the broker; it never retries by itself: a replayed push would be a second message."""
    return feed.client() if settings.CELERY_BROKER_URL == settings.REDIS_URL else _broker()


def _broker() -> redis.Redis:
    return redis.Redis.from_url(
        settings.CELERY_BROKER_URL, retry=Retry(NoBackoff(), 0), socket_timeout=5, socket_connect_timeout=3
    )


def _by_celery(queue: str, message: Message) -> bool:
    task, step_id, attempt = message
    try:
        current_app.send_task(task, args=[str(step_id), attempt], queue=queue, ignore_result=True)
    except (KombuError, RedisError, OSError) as error:
        _failed(queue, error)
        return False
    return True


def _failed(queue: str, error: Exception) -> None:
    log.warning("step.publish_failed", extra={"queue": queue, "error": f"{type(error).__name__}: {error}"[:300]})


@lru_cache(maxsize=1)
def _origin(pid: int) -> str:
    return f"gen{pid}@{socket.gethostname()}"


_REPLY_TO = str(uuid4())  # nobody listens: results are ignored
