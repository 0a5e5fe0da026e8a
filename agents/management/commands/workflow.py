"""`manage.py workflow validate FILE | publish FILE | diff NAME A B | run NAME --input k=v`."""

import json
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from agents.errors import AgentsError, InvalidInput
from agents.management.commands.watch import watch
from agents.people import acting_user
from agents.submit import submit
from agents.workflows import diff, versions

REFUSED = 3


class Command(BaseCommand):
    help = (
        "Workflows: `validate FILE` names every problem with its line, `publish FILE` saves and publishes, `diff NAME A B` "
        "compares two versions, `run NAME` submits a job. Exits with 3 where something is refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        does = parser.add_subparsers(dest="does", required=True)
        validate = does.add_parser("validate", help="check a definition and save nothing")
        publish = does.add_parser("publish", help="save a definition and publish it")
        for one in (validate, publish):
            one.add_argument("file", metavar="FILE", help="YAML or JSON; - is stdin")
        publish.add_argument("--note", default="", help="what is new, in words")
        compare = does.add_parser("diff", help="what changed between two versions")
        compare.add_argument("name", metavar="NAME")
        compare.add_argument("old", type=int, metavar="A")
        compare.add_argument("new", type=int, metavar="B")
        run = does.add_parser("run", help="submit a job")
        run.add_argument("name", metavar="NAME", help="the highest published version, or NAME@VERSION")
        run.add_argument(
            "--input",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="VALUE is JSON where it reads as such, else text",
        )
        run.add_argument("--repository", metavar="NAME")
        run.add_argument("--wait", action="store_true", help="watch it until it ends")
        for one in (publish, compare, run):
            one.add_argument("--as", dest="username", metavar="USER", help="default: the only superuser")
        for one in (validate, compare, run):
            one.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['does']}")(options)
        except AgentsError as error:
            problems = [pair for pair in getattr(error, "problems", ()) if pair[0]]
            lines = [f"{field}: {message}" for field, message in problems] or [error.message]
            raise CommandError("\n".join(lines), returncode=REFUSED) from None

    def _validate(self, options: dict[str, Any]) -> None:
        found = versions.checked(_read(options["file"])).problems
        if options["json"]:
            self.stdout.write(json.dumps({"valid": not found, "problems": [one.as_json() for one in found]}))
        else:
            for one in found:
                self.stdout.write(str(one))
            self.stdout.write(f"{len(found)} problem{'s' if len(found) != 1 else ''}." if found else "It is valid.")
        if found:
            sys.exit(REFUSED)

    def _publish(self, options: dict[str, Any]) -> None:
        user, now = acting_user(options["username"]), timezone.now()
        version = versions.save_draft(_read(options["file"]), note=options["note"], by=user, now=now)
        if version.status != version.Status.DRAFT:
            self.stdout.write(f"{version} has this text already, and is {version.status}.")
            return
        version = versions.publish(version.pk, by=user, now=now)
        self.stdout.write(f"Published {version}.")

    def _diff(self, options: dict[str, Any]) -> None:
        workflow = versions.workflow_of(acting_user(options["username"]), options["name"])
        old, new = (versions.version_of(workflow, options[one]) for one in ("old", "new"))
        changes = diff.between(old, new)
        if options["json"]:
            text = diff.unified(old, new)
            self.stdout.write(json.dumps({"changes": [one.as_json() for one in changes], "text": text}))
            return
        for one in [str(one) for one in changes] or ["No change of meaning."]:
            self.stdout.write(str(one))
        self.stdout.write(diff.unified(old, new))

    def _run(self, options: dict[str, Any]) -> None:
        payload: dict[str, Any] = {"workflow": options["name"], "inputs": dict(map(_input, options["input"]))}
        if options["repository"]:
            payload["repository"] = options["repository"]
        job, _ = submit(payload, user=acting_user(options["username"]), now=timezone.now())
        page = f"{settings.PUBLIC_URL}{job.get_absolute_url()}"
        if options["json"]:
            self.stdout.write(json.dumps({"kind": "submitted", "job": str(job.pk), "state": job.state, "page": page}))
        else:
            self.stdout.write(f"{job.pk}\n{page}")
        self.stdout.flush()
        if options["wait"]:
            code = watch(job.pk, self, as_json=options["json"])
            if code:
                sys.exit(code)


def _input(text: str) -> tuple[str, Any]:
    """Raises InvalidInput."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"{text!r} is not NAME=VALUE.", field="input")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _read(name: str) -> str:
    """Raises InvalidInput."""
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"Cannot read {name}: {error.strerror}.", field="file") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{name} is not UTF-8.", field="file") from None
