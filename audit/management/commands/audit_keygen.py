"""`manage.py audit_keygen`: makes the checkpoint key of a new log."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.errors import AuditError
from audit.signing import create_key


class Command(BaseCommand):
    help = "Makes the key that signs checkpoints, in AUDIT_KEY_DIR; prints its public half. Never overwrites one."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--folder", type=Path, default=settings.AUDIT_KEY_DIR, help="default: AUDIT_KEY_DIR")
        parser.add_argument("--origin", default=settings.AUDIT_ORIGIN, help="the log's name; default: AUDIT_ORIGIN")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            key = create_key(options["folder"], options["origin"])
        except (AuditError, OSError) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(key.verifier.vkey)
