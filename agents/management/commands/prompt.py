"""`manage.py prompt check FILE | publish FILE | list`: prompts as code."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from agents.errors import AgentsError
from agents.models import Prompt
from agents.people import acting_user
from agents.prompts import testing, versions
from agents.prompts.definition import check

REFUSED = 3


class Command(BaseCommand):
    help = (
        "Prompts: `check FILE` names every problem with its line and runs the tests on recorded answers, `publish FILE` "
        "saves and publishes, `list` tells what is in force. Exits with 3 where something is refused or a test fails."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        does = parser.add_subparsers(dest="does", required=True)
        checks = does.add_parser("check", help="check a prompt and run its tests; saves nothing, asks no model")
        publish = does.add_parser("publish", help="save a prompt and publish it")
        for one in (checks, publish):
            one.add_argument("file", metavar="FILE", help="YAML; - is stdin")
        publish.add_argument("--note", default="", help="what is new, in words")
        publish.add_argument("--as", dest="username", metavar="USER", help="default: the only superuser")
        does.add_parser("list", help="every prompt with its version in force")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['does']}")(options)
        except AgentsError as error:
            problems = [pair for pair in getattr(error, "problems", ()) if pair[0]]
            lines = [f"{field}: {message}" for field, message in problems] or [error.message]
            raise CommandError("\n".join(lines), returncode=REFUSED) from None

    def _check(self, options: dict[str, Any]) -> None:
        found = check(_read(options["file"]))
        for problem in found.problems:
            self.stdout.write(str(problem))
        outcomes = testing.run(found.data) if found.data is not None and not found.problems else []
        for one in outcomes:
            self.stdout.write(f"{one.case}: {'passes' if one.ok else one.why}")
        if found.problems or not all(one.ok for one in outcomes):
            sys.exit(REFUSED)

    def _publish(self, options: dict[str, Any]) -> None:
        user, now = acting_user(options["username"]), timezone.now()
        version = versions.save_draft(_read(options["file"]), note=options["note"], by=user, now=now)
        if version.status != version.Status.DRAFT:
            self.stdout.write(f"{version} has this text already, and is {version.status}.")
            return
        self.stdout.write(f"Published {versions.publish(version.pk, by=user, now=now)}.")

    def _list(self, options: dict[str, Any]) -> None:
        for prompt in Prompt.objects.select_related("candidate").prefetch_related("versions"):
            live = next((one for one in prompt.versions.all() if one.status == "published"), None)
            share = f", {prompt.candidate_share}% get {prompt.candidate}" if prompt.candidate else ""
            self.stdout.write(f"{live or prompt.name + ' (draft)'}{share}")


def _read(given: str) -> str:
    """Raises CommandError."""
    if given == "-":
        return sys.stdin.read()
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{given}: {error}", returncode=REFUSED) from None
