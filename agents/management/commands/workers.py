"""`manage.py workers [list|drain]`."""

import json
import sys
import time
from argparse import SUPPRESS  # a default that overwrites nothing that stood before the action's name
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from agents.errors import InvalidInput
from agents.models import WorkerProcess
from agents.workers import forget_stale, held_by, living, state_of, tell
from audit.actor import Actor

ACTOR = Actor.system("manage.py")
REFUSED, TIMED_OUT = 3, 4
LOOK_EVERY_S = 0.2
MEBIBYTE = 1_048_576


class Command(BaseCommand):
    help = (
        "Lists worker processes and what they do, or drains them: what runs ends, nothing begins, and they exit. "
        "Exits with 3 where there is no such worker, and 4 where --wait ran out."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")
        actions = parser.add_subparsers(dest="action")
        listing = actions.add_parser("list", help="lists them (also without a word)")
        listing.add_argument("--json", action="store_true", default=SUPPRESS)
        drain = actions.add_parser("drain", help="lets workers end in order")
        drain.add_argument("names", nargs="*", metavar="NAME", help="such as git@host")
        drain.add_argument("--all", action="store_true", help="every living worker")
        drain.add_argument("--wait", type=float, metavar="SECONDS", help="until they have ended, so long at most")
        drain.add_argument("--json", action="store_true", default=SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["action"] == "drain":
                self._drain(options)
            else:
                self._list(options)
        except InvalidInput as error:
            if options["json"]:
                self.stdout.write(json.dumps({"code": error.code, "detail": error.message}))
                sys.exit(REFUSED)
            raise CommandError(error.message, returncode=REFUSED) from None

    def _list(self, options: dict[str, Any]) -> None:
        now = timezone.now()
        forget_stale(now)
        rows = list(WorkerProcess.objects.order_by("group", "name"))
        held = held_by([row.name for row in rows])
        told = [_facts(row, held[row.name], now) for row in rows]
        if options["json"]:
            self.stdout.write(json.dumps({"workers": told}))
            return
        if not told:
            self.stdout.write("No worker has been seen in the last hour.")
        for one in told:
            self.stdout.write(
                f"{one['name']:<24} {one['state']:<10} {','.join(one['queues']):<14} "
                f"{one['busy']}/{one['threads']} busy  {one['rss_bytes'] // MEBIBYTE:>5} MiB  "
                f"pid {one['pid']}  {one['version']}  seen {max(0, one['seen_s']):.0f} s ago"
            )
            for step in one["steps"]:
                self.stdout.write(f"  {step['key']} {step['tool']}  {step['for_s']:.0f} s  job {step['job']}")
            if one["why"]:
                self.stdout.write(f"  told to {one['told']}: {one['why']}")

    def _drain(self, options: dict[str, Any]) -> None:
        """Raises InvalidInput."""
        now = timezone.now()
        alive = {row.name: row for row in living(now)}
        names = sorted(alive) if options["all"] else options["names"]
        if not names and not options["all"]:
            raise InvalidInput("Name the workers to drain, or say --all.", field="name")
        told = tell(names, WorkerProcess.Told.DRAIN, why="manage.py workers drain", by=ACTOR, now=now)
        left = list(names)
        if options["wait"] is not None:
            left = _wait([alive[name] for name in names], options["wait"])
        if options["json"]:
            self.stdout.write(json.dumps({"draining": list(names), "told": told, "left": left}))
        elif options["wait"] is None:
            self.stdout.write(f"Draining {', '.join(names) or 'nobody'}.")
        else:
            self.stdout.write(f"Still there: {', '.join(left)}." if left else f"Ended: {', '.join(names) or 'nobody'}.")
        if left and options["wait"] is not None:
            sys.exit(TIMED_OUT)


def _wait(rows: list[WorkerProcess], timeout_s: float) -> list[str]:
    """The names of those that have not ended in time. One that its supervisor started again has ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        left = [
            row.name
            for row in rows
            if WorkerProcess.objects.filter(
                name=row.name, pid=row.pid, started_at=row.started_at, stopped_at__isnull=True
            ).exists()
        ]
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(LOOK_EVERY_S)


def _facts(row: WorkerProcess, steps: list[Any], now: datetime) -> dict[str, Any]:
    return {
        "name": row.name,
        "group": row.group,
        "state": state_of(row, now),
        "queues": list(row.queues),
        "threads": row.threads,
        "busy": row.busy,
        "steps": [
            {
                "id": str(step.pk),
                "job": str(step.job_id),
                "key": step.key,
                "tool": step.tool,
                "attempt": step.attempt,
                "for_s": round((now - step.started_at).total_seconds(), 1) if step.started_at else 0.0,
            }
            for step in steps
        ],
        "host": row.host,
        "pid": row.pid,
        "version": row.version,
        "rss_bytes": row.rss_bytes,
        "draining": row.draining,
        "told": row.told,
        "why": row.told_why,
        "started_at": row.started_at.isoformat(),
        "consumed_at": row.consumed_at.isoformat() if row.consumed_at else None,
        "seen_at": row.seen_at.isoformat(),
        "seen_s": round((now - row.seen_at).total_seconds(), 1),
        "stopped_at": row.stopped_at.isoformat() if row.stopped_at else None,
    }
