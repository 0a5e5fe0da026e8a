"""`manage.py archive --older-than 90d`."""

import json
import re
import sys
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from agents import archive

REFUSED = 3
_AGE = re.compile(r"(\d{1,5})([dh])")


class Command(BaseCommand):
    help = (
        "Moves the logs of jobs that ended long ago from the database into compressed files, a file a day. "
        "Broken off, it goes on where it was. Exits with 3 where another one works."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--older-than", metavar="AGE", help="90d, 12h: jobs that ended before that")
        what.add_argument("--verify", action="store_true", help="compare the files with their manifests and rows")
        parser.add_argument("--batch", type=int, default=archive.BATCH, metavar="N", help="jobs a transaction")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["verify"]:
            self._verify(as_json=options["json"])
            return
        match = _AGE.fullmatch(options["older_than"])
        if match is None:
            raise CommandError("--older-than is a number of days or hours: 90d, 12h.")
        if not 1 <= options["batch"] <= 10_000:
            raise CommandError("--batch must be from 1 to 10000.")
        age = timedelta(days=int(match[1])) if match[2] == "d" else timedelta(hours=int(match[1]))
        now = timezone.now()
        try:
            done = archive.archive(now - age, now=now, batch=options["batch"])
        except archive.ArchiveError as error:
            raise CommandError(error.message, returncode=REFUSED) from None
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}.", returncode=REFUSED) from None
        told = {"jobs": done.jobs, "entries": done.entries, "size_bytes": done.size_bytes}
        if options["json"]:
            self.stdout.write(json.dumps(told))
        else:
            self.stdout.write(f"{done.jobs} jobs with {done.entries} entries archived in {done.size_bytes} bytes.")

    def _verify(self, *, as_json: bool) -> None:
        problems = [{"day": day.isoformat(), "problem": problem} for day, problem in archive.verify()]
        if as_json:
            self.stdout.write(json.dumps({"whole": not problems, "problems": problems}))
        else:
            for one in problems:
                self.stdout.write(f"{one['day']}: {one['problem']}")
            self.stdout.write("The archive is whole." if not problems else f"{len(problems)} days are not.")
        if problems:
            sys.exit(1)
