"""`manage.py sweeper`: the loop that finds what was lost. Any number may run; one at a time works."""

import logging
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import Error, connection
from django.utils import timezone

from agents.engine.recover import sweep

log = logging.getLogger(__name__)

LOCK = "hashtext('countersign.sweeper')"


class Command(BaseCommand):
    help = "Finds lost steps, overdue messages, expired approvals; runs until it is stopped."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.is_set():
            try:
                self.once()
            except Error as error:
                log.warning("sweep.database_unreachable", extra={"error": type(error).__name__})
                connection.close()
            stop.wait(settings.SWEEP_INTERVAL_S)

    def once(self) -> None:
        """One pass, where no other sweeper holds the lock of this session."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_try_advisory_lock({LOCK})")
            if not cursor.fetchone()[0]:
                return
        try:
            found = sweep(timezone.now())
            if any(found.values()):
                log.info("sweep.found", extra=found)
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT pg_advisory_unlock({LOCK})")
