"""`manage.py workspace list|clean`."""

import json
from argparse import SUPPRESS  # a default that overwrites nothing that stood before the action's name
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from agents.cleaning import clean_workspaces
from agents.models import Job
from tools import quota, workspaces
from tools.quota import disk


class Command(BaseCommand):
    help = "Lists the workspaces on this host with what each holds, or removes those whose time is over."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="the largest first")
        listing.add_argument("--measure", action="store_true", help="count now, instead of as counted last")
        clean = actions.add_parser("clean", help="of jobs that ended long ago, of no job, and what crashes left")
        for action in (listing, clean):
            action.add_argument("--json", action="store_true", default=SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['action']}")(options)

    def _list(self, options: dict[str, Any]) -> None:
        told = []
        for workspace_id in workspaces.there():
            place = workspaces.place_of(str(workspace_id))
            if options["measure"]:
                disk.forget(place)
            used = quota.known(place)
            job = Job.objects.filter(pk=workspace_id).only("state").first()
            told.append(
                {
                    "job": str(workspace_id),
                    "state": job.state if job else None,
                    "size_bytes": used.size_bytes,
                    "files": used.files,
                    "problem": quota.bounds().broken(used),
                }
            )
        told.sort(key=lambda one: -int(str(one["size_bytes"])))
        if options["json"]:
            self.stdout.write(json.dumps({"workspaces": told, "total_bytes": disk.total_bytes(fresh=True)}))
            return
        for one in told:
            problem = f"  FULL: {one['problem']}" if one["problem"] else ""
            self.stdout.write(
                f"{one['job']}  {one['state'] or 'no such job':<12} {one['size_bytes']:>14}  {one['files']:>8}{problem}"
            )
        self.stdout.write(f"{len(told)} workspaces, {disk.total_bytes(fresh=True)} bytes with their snapshots.")

    def _clean(self, options: dict[str, Any]) -> None:
        done = clean_workspaces(now=timezone.now())
        if options["json"]:
            self.stdout.write(json.dumps(done.as_json()))
            return
        self.stdout.write(
            f"Removed {done.ended} workspaces of jobs that ended, {done.orphans} of no job, {done.for_room} for room; "
            f"{done.leftovers} other leftovers."
        )
