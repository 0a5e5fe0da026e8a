"""`manage.py artifact list|sweep|verify`."""

import json
import sys
from argparse import SUPPRESS  # a default that overwrites nothing that stood before the action's name
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from tools.artifacts import purging, store
from tools.models import Artifact

DAMAGED = 1


class Command(BaseCommand):
    help = (
        "Lists the files that jobs keep, sweeps those whose time is over, or compares every content with its digest "
        "(exit code 1 where one is missing or damaged)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="what is kept, the newest first")
        listing.add_argument("--job", metavar="ID", help="of one job")
        listing.add_argument("--limit", type=int, default=100)
        sweep = actions.add_parser("sweep", help="purges by age and size, and removes contents that nobody has")
        verify = actions.add_parser("verify", help="reads every content that is kept")
        for action in (listing, sweep, verify):
            action.add_argument("--json", action="store_true", default=SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['action']}")(options)

    def _list(self, options: dict[str, Any]) -> None:
        rows = Artifact.objects.filter(purged_at=None).order_by("-created_at", "-pk")
        if options["job"]:
            try:
                rows = rows.filter(workspace_id=UUID(options["job"]))
            except ValueError:
                raise CommandError("--job is the id of a job.") from None
        told = [
            {
                "id": str(one.pk),
                "job": str(one.workspace_id),
                "name": one.name,
                "size_bytes": one.size_bytes,
                "sha256": one.sha256,
                "created_at": one.created_at.isoformat(),
            }
            for one in rows[: max(options["limit"], 1)]
        ]
        if options["json"]:
            self.stdout.write(json.dumps({"artifacts": told}))
            return
        for one in told:
            self.stdout.write(f"{one['created_at']}  {one['job']}  {one['size_bytes']:>12}  {ascii(one['name'])[1:-1]}")

    def _sweep(self, options: dict[str, Any]) -> None:
        done = purging.sweep(now=timezone.now())
        if options["json"]:
            self.stdout.write(json.dumps(done.as_json()))
            return
        self.stdout.write(
            f"{done.by_age} artifacts purged by age, {done.by_size} for room; {done.contents} contents removed, "
            f"{done.strays} half-made ones."
        )

    def _verify(self, options: dict[str, Any]) -> None:
        problems, count = [], 0
        kept = Artifact.objects.filter(purged_at=None).order_by("sha256").values_list("sha256", "size_bytes").distinct()
        for sha256, size_bytes in kept.iterator():
            count += 1
            try:
                for _ in store.read(sha256, size_bytes):
                    break
            except store.Missing as error:
                problems.append({"sha256": sha256, "problem": str(error)})
        if options["json"]:
            self.stdout.write(json.dumps({"contents": count, "problems": problems}))
        else:
            for one in problems:
                self.stdout.write(f"{one['sha256']}: {one['problem']}")
            self.stdout.write(f"{count} contents, {len(problems)} of them missing or damaged.")
        if problems:
            sys.exit(DAMAGED)
