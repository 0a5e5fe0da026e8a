import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from config.verify import Line, Result, run

MARKS = {Result.PASS: "pass", Result.FAIL: "FAIL", Result.NA: "n/a "}


class Command(BaseCommand):
    help = "Tests the live configuration: each line passes, fails with its mend, or does not apply; exit code 1 where one fails."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--send", metavar="ADDRESS", default="", help="also send a test mail there, and a test message to Slack"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        lines = []
        for line in run(send_to=options["send"], send=bool(options["send"])):
            lines.append(line)
            if not options["json"]:
                self._show(line)
        counts = {result.value: sum(line.result is result for line in lines) for result in Result}
        if options["json"]:
            report = {"ok": not counts["fail"], "counts": counts, "lines": [line.as_json() for line in lines]}
            self.stdout.write(json.dumps(report, ensure_ascii=False, indent=2))
        else:
            self.stdout.write(f"\n{counts['pass']} pass, {counts['fail']} fail, {counts['n/a']} do not apply")
        if counts["fail"]:
            sys.exit(1)

    def _show(self, line: Line) -> None:
        style = {Result.PASS: self.style.SUCCESS, Result.FAIL: self.style.ERROR, Result.NA: self.style.WARNING}
        self.stdout.write(f"{style[line.result](MARKS[line.result])} {line.name}: {line.says}")
        if line.mend:
            self.stdout.write(f"       {line.mend}")
