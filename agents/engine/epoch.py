"""Did the broker lose its data? Then every message went with it, and all are sent again at once.

Redis: a key that is there only while its data is. RabbitMQ: a durable queue that nobody reads, for the same reason.
"""

import logging
import time
from typing import Any
from uuid import uuid4

from amqp.exceptions import AMQPError, NotFound
from celery import current_app
from django.conf import settings
from kombu import Connection
from kombu.exceptions import KombuError

from agents import feed

log = logging.getLogger(__name__)

KEY = "countersign:epoch"
QUEUE = "countersign.epoch"
AMQP_EVERY_S = 5.0

_connection: Connection | None = None
_asked_at = 0.0


def on_redis() -> bool:
    """Is the broker Redis? Otherwise it speaks AMQP."""
    return str(settings.CELERY_BROKER_URL).startswith(("redis", "unix", "valkey"))


def is_new() -> bool:
    """True once after the broker began empty.

    Raises:
        RedisError, OSError: it is away.
    """
    if on_redis():
        return bool(feed.client().set(KEY, str(uuid4()), nx=True))
    return _amqp_is_new()


def _amqp_is_new() -> bool:
    global _connection, _asked_at
    if time.monotonic() - _asked_at < AMQP_EVERY_S:
        return False
    _asked_at = time.monotonic()
    try:
        if _connection is None:
            _connection = current_app.connection_for_write(connect_timeout=3)
        _connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)
        return _declared_anew(_connection)
    except (KombuError, AMQPError) as error:
        _forget()
        raise OSError(f"{type(error).__name__}: {error}") from error
    except OSError:
        _forget()
        raise


def _declared_anew(connection: Connection) -> bool:
    channel: Any = connection.channel()
    try:
        channel.queue_declare(queue=QUEUE, passive=True)
        channel.close()
        return False
    except NotFound:  # it closes the channel
        log.warning("broker.is_new")
    with connection.channel() as opened:
        other: Any = opened
        other.queue_declare(queue=QUEUE, durable=True, auto_delete=False)
    return True


def _forget() -> None:
    global _connection
    if _connection is not None:
        _connection.release()
    _connection = None
