"""The sweeper's part: what is due among schedules, rules and messages."""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError
from django.db.models import Model, QuerySet

from agents.models import TriggerEvent, TriggerRun, WebhookDelivery, WebhookMessage
from agents.triggers import outbox, rules, runs, schedules

log = logging.getLogger(__name__)

KEPT = timedelta(days=30)  # events, deliveries and messages
RUNS_KEPT = timedelta(days=180)
CLEAN_EVERY_S = 60.0
BATCH = 1000

_cleaned = float("-inf")


def sweep(now: datetime) -> int:
    """One pass; how much it found. A part that fails is logged and does not stop the others.

    Raises:
        OperationalError, InterfaceError: the database is away.
    """
    parts: list[Callable[[datetime], int]] = [
        schedules.fire_due,
        rules.match_new,
        runs.start_due,
        outbox.publish_due,
        _clean_sometimes,
    ]
    found = 0
    for part in parts:
        try:
            found += part(now)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            log.exception("sweep.triggers_failed", extra={"part": part.__name__})
    return found


def clean(now: datetime) -> int:
    """Removes what is old, a bounded number at a time; and partial matches whose window is over."""
    old: list[QuerySet[Model]] = [
        TriggerEvent.objects.filter(at__lt=now - KEPT),
        WebhookDelivery.objects.filter(at__lt=now - KEPT),
        WebhookMessage.objects.filter(ended_at__lt=now - KEPT),
        TriggerRun.objects.filter(ended_at__lt=now - RUNS_KEPT),
    ]
    for rows in old:
        rows.model._default_manager.filter(pk__in=rows.order_by().values_list("pk", flat=True)[:BATCH]).delete()
    return rules.clean(now)


def _clean_sometimes(now: datetime) -> int:
    global _cleaned
    if time.monotonic() - _cleaned < CLEAN_EVERY_S:
        return 0
    _cleaned = time.monotonic()
    clean(now)
    return 0
