"""`manage.py audit_keygen`: makes the checkpoint key of a new log, or a witness's key."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.errors import AuditError
from audit.notes import CosignatureSigner, NoteSigner
from audit.signing import WITNESS_FILE, create_key, make_key


class Command(BaseCommand):
    help = (
        "Makes the key that signs checkpoints, in AUDIT_KEY_DIR, or with --witness that of a witness; prints its public "
        "half. Never overwrites one."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--folder", type=Path, help="default: AUDIT_KEY_DIR, for a witness AUDIT_WITNESS_DIR")
        parser.add_argument("--origin", default=settings.AUDIT_ORIGIN, help="the log's name; default: AUDIT_ORIGIN")
        parser.add_argument("--witness", metavar="NAME", help="make a witness's key of this name")

    def handle(self, *args: Any, **options: Any) -> None:
        key: NoteSigner
        try:
            if options["witness"]:
                folder = options["folder"] or settings.AUDIT_WITNESS_DIR
                key = make_key(folder / WITNESS_FILE, CosignatureSigner, options["witness"])
            else:
                key = create_key(options["folder"] or settings.AUDIT_KEY_DIR, options["origin"])
        except (AuditError, OSError) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(key.verifier.vkey)
