import json
import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from config.seed import seed_demo, seed_people


class Command(BaseCommand):
    help = "Creates what a fresh installation has: approvers, an administrator, policies, agents. Safe to run again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--demo", action="store_true", help="also the sample repositories and the demo job, once")
        parser.add_argument(
            "--admin-password-file",
            metavar="FILE",
            help="the password of a new administrator; without it ADMIN_PASSWORD, or none (use changepassword)",
        )
        parser.add_argument("--json", action="store_true", help="print what was done as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        file = options["admin_password_file"]
        password = Path(file).read_text(encoding="utf-8").strip() if file else os.environ.get("ADMIN_PASSWORD") or None
        done: dict[str, object] = {"created": seed_people(admin_password=password, now=now)}
        if options["demo"]:
            job, created = seed_demo(now=now)
            done["demo_job"] = {"id": str(job.pk), "created": created}
        if options["json"]:
            self.stdout.write(json.dumps(done))
        else:
            self.stdout.write("seeded: " + (", ".join(done["created"]) or "nothing new"))  # type: ignore[arg-type]
