"""`manage.py audit_consistency A B`: exit code 0 consistent, 2 forked or cut, 1 the check could not run."""

import json
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from audit.consistency import find_note, prove_consistency
from audit.errors import AuditError, CannotVerify, InvalidNote, InvalidProof
from audit.notes import CheckpointText, NoteVerifier, text_of
from audit.signing import load_verifier


class Command(BaseCommand):
    help = (
        "Proves that the log of checkpoint B continues that of checkpoint A. A and B: a size, or a file with a checkpoint "
        "that was kept elsewhere. Exit code 0: it does; 2: it does not; 1: the check could not run."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("old", metavar="A")
        parser.add_argument("new", metavar="B")
        parser.add_argument("--out", type=Path, metavar="FILE", help="write the proof, for the offline verifier")
        parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
        parser.add_argument("--vkey", help="the checkpoint key's public half, if not that of this installation")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            verifier = (
                NoteVerifier.from_vkey(options["vkey"])
                if options["vkey"]
                else load_verifier(settings.AUDIT_KEY_DIR) or load_verifier(settings.AUDIT_PUBLISH_DIR)
            )
            if verifier is None:
                raise CannotVerify("There is no public key to check with: give it by --vkey.")
            found = prove_consistency(find_note(options["old"]), find_note(options["new"]), verifier)
            sizes = [CheckpointText.parse(text_of(note)).size for note in (found.old, found.new)]
            if options["out"]:
                options["out"].write_text(found.as_json(), encoding="utf-8")
        except (InvalidProof, InvalidNote) as error:
            self._tell(
                options["json"], {"consistent": False, "exit_code": 2, "code": error.code, "message": str(error)}
            )
            sys.exit(2)
        except (AuditError, Error, OSError) as error:
            raise CommandError(str(error).splitlines()[0], returncode=1) from None
        message = f"The log of {sizes[1]} records continues the log of {sizes[0]}."
        self._tell(options["json"], {"consistent": True, "exit_code": 0, "sizes": sizes, "message": message})

    def _tell(self, as_json: bool, found: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(found) if as_json else str(found["message"]))
