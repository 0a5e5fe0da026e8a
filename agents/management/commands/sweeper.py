"""`manage.py sweeper`: the loop that finds what was lost. Any number may run; one at a time works."""

import logging
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import Error, connection
from django.utils import timezone

from agents.engine.duty import STOPPED_FOR_MS, Duty, DutyLost
from agents.engine.recover import sweep

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Finds lost steps, overdue messages, expired approvals; runs until it is stopped."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        duty = Duty("sweeper")
        while not stop.is_set():
            try:
                self.once(duty)
            except Error as error:
                log.warning("sweep.database_unreachable", extra={"error": type(error).__name__})
                connection.close()
            stop.wait(settings.SWEEP_INTERVAL_S)
        try:
            duty.leave()
        except Error as error:
            log.warning("sweep.database_unreachable", extra={"error": type(error).__name__})

    def once(self, duty: Duty) -> None:
        """One pass, where no other sweeper has the duty. One that wakes up late stops before its next part, and what
        it was in the middle of is guarded row by row."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, false)", [str(STOPPED_FOR_MS)])
        if not duty.take():
            return
        try:
            found = sweep(timezone.now(), guard=duty.keep)
        except DutyLost:
            log.warning("sweep.duty_lost", extra={"holder": duty.holder})
            return
        if any(found.values()):
            log.info("sweep.found", extra=found)
