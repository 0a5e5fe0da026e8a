"""`manage.py audit_verify`: exit code 0 whole, 2 tampered, 3 stale, 1 the check could not run."""

import dataclasses
import json
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from audit.checking.completeness import check_completeness
from audit.checking.findings import Finding, Report, Verdict
from audit.checking.trust import Trust
from audit.errors import AuditError
from audit.notes import NoteVerifier
from audit.verify import verify

_HEADLINES = {
    Verdict.WHOLE: "The audit log is whole.",
    Verdict.TAMPERED: "The audit log was TAMPERED with.",
    Verdict.STALE: "The audit log is whole as far as it goes, but it is STALE.",
}
_STYLES = {Verdict.WHOLE: "SUCCESS", Verdict.TAMPERED: "ERROR", Verdict.STALE: "WARNING"}


class Command(BaseCommand):
    help = (
        "Checks every record of the audit log against its signature, its place and the signed checkpoints. "
        "Exit code 0: whole; 2: tampered with; 3: stale; 1: the check could not run."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help="one JSON object on standard output")
        form.add_argument(
            "--jsonl", action="store_true", help="one JSON line a finding on standard output, then a summary"
        )
        parser.add_argument(
            "--no-signatures", action="store_true", help="leave out the writers' signatures: much faster"
        )
        parser.add_argument("--processes", type=int, help="how many check a long log; default: one a core")
        stretch = parser.add_mutually_exclusive_group()
        stretch.add_argument("--full", action="store_true", help="read every record; the default")
        stretch.add_argument(
            "--since", type=int, metavar="SIZE", help="read records only from the checkpoint at SIZE on"
        )
        parser.add_argument(
            "--accept-restart",
            type=int,
            action="append",
            default=[],
            metavar="SIZE",
            help="a declared loss of records from SIZE on is known; say so instead of calling it tampering",
        )
        parser.add_argument(
            "--completeness",
            action="store_true",
            help="also check that nothing ran without leave before it, and that what had leave came to an end",
        )
        parser.add_argument("--vkey", help="the checkpoint key's public half, if not that of this installation")

    def handle(self, *args: Any, **options: Any) -> None:
        show = Progress(self.stderr, quiet=options["json"] or options["jsonl"] or options["verbosity"] == 0)
        try:
            trust = Trust.from_settings()
            trust = dataclasses.replace(trust, accepted_restarts=frozenset(options["accept_restart"]))
            if options["vkey"]:
                trust = dataclasses.replace(trust, verifier=NoteVerifier.from_vkey(options["vkey"]))
            report = verify(
                since=options["since"],
                trust=trust,
                signatures=not options["no_signatures"],
                processes=options["processes"],
                progress=show,
            )
            counted = check_completeness(report, progress=show) if options["completeness"] else None
        except (AuditError, Error, OSError) as error:
            why = str(error).strip().splitlines()[0]
            if options["json"] or options["jsonl"]:
                self.stdout.write(json.dumps({"verdict": "unknown", "exit_code": 1, "error": why}))
                sys.exit(1)
            raise CommandError(f"The check could not run: {why}", returncode=1) from None
        finally:
            show.end()
        if options["json"]:
            more = {"completeness": counted.as_json()} if counted else {}
            self.stdout.write(json.dumps({**report.as_json(), **more}))
        elif options["jsonl"]:
            said = {**report.as_json(), **({"completeness": counted.as_json()} if counted else {})}
            for finding in said.pop("findings"):
                self.stdout.write(json.dumps(finding))
            self.stdout.write(json.dumps(said))
        else:
            self._show(report)
            if counted:
                self.stdout.write(counted.words())
        sys.exit(report.exit_code)

    def _show(self, report: Report) -> None:
        self.stdout.write(getattr(self.style, _STYLES[report.verdict])(_HEADLINES[report.verdict]))
        for finding in report.findings:
            self.stdout.write(f"  - {_place(finding)}{finding.message}")
        if report.found > len(report.findings):
            self.stdout.write(f"  - and {report.found - len(report.findings)} more findings")
        self.stdout.write(f"{report.checked} of {report.size} records read in {report.seconds:.1f} s.")
        if report.archived:
            self.stdout.write(f"{report.archived} are in archives; their hashes stand in the log.")
        if report.checkpoint_size is not None:
            self.stdout.write(
                f"Signed up to {report.checkpoint_size} records at {report.checkpoint_at:%F %T} UTC, "
                f"root {report.root}; {report.checkpoints} checkpoints, {report.published} of them published."
            )
        for note in report.notes:
            self.stdout.write(note)
        if report.pending:
            self.stdout.write(f"{report.pending} newer records wait for their place.")


def _place(finding: Finding) -> str:
    parts = []
    if finding.record is not None:
        parts.append(f"record {finding.record}")
    if finding.index is not None:
        parts.append(f"index {finding.index}")
    if finding.event is not None:
        parts.append(finding.event)
    return ", ".join(parts) + ": " if parts else ""


class Progress:
    """Says how far a long check is, on standard error: one changing line on a terminal, else a line now and then."""

    def __init__(self, stream: Any, *, quiet: bool) -> None:
        self.stream = stream
        self.quiet = quiet
        self.live = stream.isatty()
        self._shown_at = time.monotonic()
        self._shown = False

    def __call__(self, done: int, of: int) -> None:
        if self.quiet or time.monotonic() - self._shown_at < (0.2 if self.live else 5):
            return
        self._shown_at, self._shown = time.monotonic(), True
        line = f"{done} of {of} records ({100 * done // max(of, 1)} %)"
        self.stream.write(f"\r{line}" if self.live else line, ending="" if self.live else "\n")

    def end(self) -> None:
        if self._shown and self.live:
            self.stream.write("")
