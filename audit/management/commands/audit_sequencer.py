"""`manage.py audit_sequencer`: runs until SIGTERM or SIGINT."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.errors import AuditError
from audit.publishing.couriers import Couriers
from audit.sequencer import Sequencer


class Command(BaseCommand):
    help = "Gives audit records their place in the log, signs checkpoints, publishes them, and asks witnesses."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="one round, then end (for scripts and backups)")

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        try:
            sequencer = Sequencer.from_settings()
            couriers = Couriers.from_settings(sequencer.publisher)
            if options["once"]:
                sequencer.once()
                couriers.once()
                return
            self.stderr.write("The audit sequencer is running.")
            couriers.start(stop)
            sequencer.run(stop)
            couriers.join(timeout_s=2)
        except AuditError as error:
            raise CommandError(str(error)) from None
