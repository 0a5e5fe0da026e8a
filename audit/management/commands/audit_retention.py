"""`manage.py audit_retention list | archive | check | hold | release`."""

import argparse
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connection, transaction

from audit import retention
from audit.actor import Actor
from audit.errors import AuditError

_ACTOR = Actor.system("audit_retention")
_HOLDS = "SELECT record::text, lower, upper FROM audit_hold WHERE released IS NULL ORDER BY lower"


class Command(BaseCommand):
    help = "Shows the parts of the audit log, archives old ones, and places and releases legal holds."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("list", help="parts and legal holds")
        archive = verbs.add_parser(
            "archive", help="write the oldest parts to files and drop them; run it as the role that migrated"
        )
        archive.add_argument("folder", type=Path)
        archive.add_argument("--keep-days", type=int, required=True, help="parts that ended longer ago are archived")
        check = verbs.add_parser("check", help="compare archive files with the log")
        check.add_argument("files", type=Path, nargs="+")
        hold = verbs.add_parser("hold", help="nothing recorded between two moments is archived or erased")
        hold.add_argument("--from", dest="lower", type=_moment, required=True, metavar="TIME", help="ISO 8601")
        hold.add_argument("--until", dest="upper", type=_moment, required=True, metavar="TIME", help="ISO 8601")
        release = verbs.add_parser("release", help="end a hold")
        release.add_argument("hold", type=UUID)
        for one in (hold, release):
            one.add_argument("--reason", required=True, help="kept in the log; can be erased")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            said, lines = getattr(self, f"_{options['verb']}")(options)
        except (AuditError, Error, OSError) as error:
            raise CommandError(str(error).splitlines()[0]) from None
        self.stdout.write(json.dumps(said) if options["json"] else "\n".join(lines))
        if said.get("wrong"):
            raise CommandError(f"{len(said['wrong'])} findings", returncode=2)

    def _list(self, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        found = retention.parts(datetime.now(UTC))
        with connection.cursor() as cursor:
            cursor.execute(_HOLDS)
            holds = cursor.fetchall()
        said = {
            "parts": [
                {"name": part.name, "until": _iso(part.until), "archived_at": _iso(part.archived_at)} for part in found
            ],
            "holds": [{"hold": hold, "from": _iso(lower), "until": _iso(upper)} for hold, lower, upper in holds],
        }
        lines = [f"{part.name:10} until {_day(part.until):12} {_state(part)}" for part in found]
        lines += [f"held by {hold}: {_day(lower)} to {_day(upper)}" for hold, lower, upper in holds]
        return said, lines

    def _archive(self, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        now = datetime.now(UTC)
        limit = now - timedelta(days=options["keep_days"])
        due = [
            part
            for part in retention.parts(now)
            if part.over and part.archived_at is None and part.until is not None and part.until <= limit
        ]
        done = [retention.archive(part.name, options["folder"], actor=_ACTOR, now=now) for part in due]
        said = {"archived": [{"part": one.part, "file": str(one.path), "sha256": one.sha256} for one in done]}
        lines = [f"{one.part}: {one.records} records in {one.path}, SHA-256 {one.sha256}" for one in done]
        return said, lines or ["No part is old enough."]

    def _check(self, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        files, wrong, lines = [], [], []
        for path in options["files"]:
            records, found = retention.check_archive(path)
            files.append({"file": str(path), "records": records})
            wrong += found
            lines += found or [f"{path}: {records} records, each the one that the log holds."]
        return {"files": files, "wrong": wrong}, lines

    def _hold(self, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        if options["upper"] <= options["lower"]:
            raise CommandError("A hold ends after it begins.")
        with transaction.atomic():
            hold = retention.place_hold(options["lower"], options["upper"], reason=options["reason"], actor=_ACTOR)
        return {"hold": str(hold)}, [f"Held: {hold}. `audit_retention release {hold} --reason …` ends it."]

    def _release(self, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        with transaction.atomic():
            retention.release_hold(options["hold"], reason=options["reason"], actor=_ACTOR)
        return {"released": str(options["hold"])}, [f"The hold {options['hold']} is released."]


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-01-31 or 2026-01-31T12:00+02:00") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d}" if at else "-"


def _state(part: retention.Part) -> str:
    if part.archived_at is not None:
        return f"archived on {_day(part.archived_at)}"
    return "over" if part.over else "open"
