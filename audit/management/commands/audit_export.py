"""`manage.py audit_export DIR`: the log as a folder that an auditor checks elsewhere."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from audit.actor import Actor
from audit.errors import AuditError
from audit.export import export


class Command(BaseCommand):
    help = (
        "Writes the log up to its latest checkpoint into a new folder (JSONL, checkpoint, C2SP tlog-tiles, public keys), "
        "with the verifier that checks it offline. The export is itself recorded."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="new, or empty")
        parser.add_argument("--payloads", action="store_true", help="with arguments, output and reasons: personal data")
        parser.add_argument("--json", action="store_true", help="one JSON object on standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            done = export(options["folder"], actor=Actor.system("audit_export"), payloads=options["payloads"])
        except (AuditError, Error, OSError) as error:
            raise CommandError(str(error).splitlines()[0]) from None
        if options["json"]:
            self.stdout.write(json.dumps({"folder": str(done.folder), "size": done.size, "payloads": done.payloads}))
            return
        self.stdout.write(f"{done.size} records in {done.folder}. To check them there:")
        self.stdout.write(f"  python3 {done.folder}/countersign_verify.py export {done.folder} --vkey YOUR-KEY")
