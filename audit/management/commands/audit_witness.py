"""`manage.py audit_witness`: runs until SIGTERM or SIGINT. Needs no database."""

import signal
import threading
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.errors import AuditError, InvalidNote
from audit.notes import NoteVerifier
from audit.signing import load_witness_key
from audit.witness.keeper import Keeper
from audit.witness.policy import read_policy
from audit.witness.server import WitnessServer


class Command(BaseCommand):
    help = (
        "Witnesses other logs: cosigns checkpoints that continue what it saw before, and refuses all others "
        "(C2SP tlog-witness)."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--folder", type=Path, default=settings.AUDIT_WITNESS_DIR, help="key and state; default: AUDIT_WITNESS_DIR"
        )
        parser.add_argument("--listen", default="127.0.0.1:8091", metavar="HOST:PORT")
        parser.add_argument(
            "--log",
            action="append",
            default=[],
            metavar="VKEY",
            help="a log to witness, by its checkpoint key; repeat it for more",
        )
        parser.add_argument("--policy", type=Path, help="a policy file whose `log` lines are witnessed")

    def handle(self, *args: Any, **options: Any) -> None:
        host, _, port = options["listen"].rpartition(":")
        try:
            logs = [NoteVerifier.from_vkey(vkey) for vkey in options["log"]]
            if options["policy"]:
                logs += read_policy(options["policy"]).logs
            if not logs or not host or not port.isdecimal():
                raise InvalidNote("Name the logs to witness by --log or --policy, and HOST:PORT by --listen.")
            keeper = Keeper(load_witness_key(options["folder"]), options["folder"], logs)
            server = WitnessServer((host, int(port)), keeper)
        except (AuditError, OSError, OverflowError) as error:
            raise CommandError(str(error)) from None
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.stderr.write(f"The witness {keeper.key.name} listens on {server.url}.")
        stop.wait()
        server.shutdown()
        server.server_close()
