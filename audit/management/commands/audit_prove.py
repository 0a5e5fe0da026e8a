"""`manage.py audit_prove ID`: writes ID.entry and ID.tlog-proof, for somebody elsewhere to check."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from audit.errors import AuditError
from audit.prove import check_proof, prove
from audit.signing import load_verifier


class Command(BaseCommand):
    help = "Writes a proof that a record stands in the log: ID.entry (its bytes) and ID.tlog-proof (C2SP)."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=UUID)
        parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="default: the current folder")
        parser.add_argument("--json", action="store_true", help="one JSON object on standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        identifier, folder = options["id"], options["out"]
        try:
            proof = prove(identifier)
            verifier = load_verifier(settings.AUDIT_KEY_DIR) or load_verifier(settings.AUDIT_PUBLISH_DIR)
            if verifier is not None:
                check_proof(proof.text, proof.entry, [verifier])
            folder.mkdir(parents=True, exist_ok=True)
            files = {
                "entry": folder / f"{identifier}.entry",
                "proof": folder / f"{identifier}.tlog-proof",
            }
            files["entry"].write_bytes(proof.entry)
            files["proof"].write_text(proof.text, encoding="utf-8")
        except (AuditError, Error, OSError) as error:
            raise CommandError(str(error).splitlines()[0]) from None
        if options["json"]:
            self.stdout.write(json.dumps({"index": proof.index, **{name: str(path) for name, path in files.items()}}))
        else:
            self.stdout.write(f"Record {identifier} stands at index {proof.index}: {files['entry']}, {files['proof']}")
