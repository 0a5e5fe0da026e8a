import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from config.doctor import Finding, Level, examine

MARKS = {Level.OK: "ok  ", Level.WARN: "warn", Level.FAIL: "FAIL"}


class Command(BaseCommand):
    help = "Says what is installed, what works and what is misconfigured; exit code 1 when something must be mended."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = []
        for finding in examine():
            findings.append(finding)
            if not options["json"]:
                self._show(finding)
        counts = {level.value: sum(found.level is level for found in findings) for level in Level}
        if options["json"]:
            healthy = counts[Level.FAIL] == 0
            report = {"healthy": healthy, "counts": counts, "findings": [found.as_json() for found in findings]}
            self.stdout.write(json.dumps(report, ensure_ascii=False, indent=2))
        else:
            self.stdout.write(f"\n{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} to mend")
        if counts[Level.FAIL]:
            sys.exit(1)

    def _show(self, finding: Finding) -> None:
        style = {Level.OK: self.style.SUCCESS, Level.WARN: self.style.WARNING, Level.FAIL: self.style.ERROR}
        self.stdout.write(f"{style[finding.level](MARKS[finding.level])} {finding.name}: {finding.says}")
        if finding.todo:
            self.stdout.write(f"       {finding.todo}")
