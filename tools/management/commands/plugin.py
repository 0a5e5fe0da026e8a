"""`manage.py plugin list|sync|show|enable|disable|scaffold|test`: tools by others."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from audit.actor import Actor
from tools import admission
from tools.errors import ToolError
from tools.models import ToolDefinition
from tools.plugins import inspecting, packages, scaffold
from tools.spec import Effect

ACTOR = Actor.system("manage.py")
REFUSED = 3
DIGEST_LEAST = 12


class Command(BaseCommand):
    help = "Finds tools that Python packages bring, shows what they are, and lets them be used or not."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="the tools by others that were found, and whether they may be used")
        listing.add_argument("--json", action="store_true")
        sync = actions.add_parser("sync", help="notes what the installed packages bring; what changed is disabled")
        sync.add_argument("--json", action="store_true")
        show = actions.add_parser("show", help="a tool's definition, or what changed in it since it was accepted")
        show.add_argument("name")
        enable = actions.add_parser("enable", help="lets a tool be used, as it was shown")
        enable.add_argument("name")
        enable.add_argument(
            "--sha256",
            required=True,
            metavar="HEX",
            help=f"the digest that `show` printed, or its first {DIGEST_LEAST} or more digits",
        )
        enable.add_argument("--effect", choices=[str(one) for one in Effect], default="", help="as you judge it")
        enable.add_argument("--queue", default="", help="whose workers run it")
        disable = actions.add_parser("disable", help="takes a tool out of use at once")
        disable.add_argument("name")
        disable.add_argument("--reason", default="", help="for the audit log")
        begin = actions.add_parser("scaffold", help="begins a plugin: a package with a tool, its tests and a page")
        begin.add_argument("name", help="of the plugin, such as weather")
        begin.add_argument("folder", type=Path, help="made, or empty")
        test = actions.add_parser("test", help="runs a plugin's tests beside this server's code")
        test.add_argument("folder", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except ToolError as error:
            raise CommandError(error.message, returncode=REFUSED) from None

    def _list(self, options: dict[str, Any]) -> None:
        rows = list(ToolDefinition.objects.all())
        if options["json"]:
            self.stdout.write(json.dumps([_facts(row) for row in rows]))
            return
        for row in rows:
            why = f"  {row.problem}" if row.problem else ""
            self.stdout.write(f"{row.name}  {admission.state_of(row)}  {row.origin}  {row.found_sha256[:12]}{why}")
        if not rows:
            self.stdout.write("None. `plugin sync` looks for them.")

    def _sync(self, options: dict[str, Any]) -> None:
        changed, problems = inspecting.sync(now=timezone.now(), actor=ACTOR)
        if options["json"]:
            self.stdout.write(json.dumps({"changed": [_facts(row) for row in changed], "problems": problems}))
        else:
            count = len(packages.installed())
            self.stdout.write(f"{count} package{'s' * (count != 1)} with tools.")
            for row in changed:
                self.stdout.write(f"{row.name}: {admission.state_of(row)}. {row.problem}".strip())
            for problem in problems:
                self.stderr.write(problem)
        if problems:
            sys.exit(REFUSED)

    def _show(self, options: dict[str, Any]) -> None:
        row = self._row(options["name"])
        if admission.state_of(row) == "changed":
            self.stdout.write(admission.difference(row))
        else:
            self.stdout.write(json.dumps(row.definition, indent=2, sort_keys=True))
        if row.problem:
            self.stdout.write(f"\nIt cannot be enabled: {row.problem}")
        self.stdout.write(f"\n{row.name} of {row.origin} is {admission.state_of(row)}.\nsha256 {row.found_sha256}")

    def _enable(self, options: dict[str, Any]) -> None:
        row = self._row(options["name"])
        given = options["sha256"].lower()
        if len(given) < DIGEST_LEAST or not row.found_sha256.startswith(given):
            raise admission.Refused(
                f"{row.name} is not what has this digest: `plugin show {row.name}` shows what it is."
            )
        row = admission.enable(
            row.name,
            sha256=row.found_sha256,
            by=None,
            now=timezone.now(),
            actor=ACTOR,
            effect=options["effect"],
            queue=options["queue"],
        )
        self.stdout.write(f"{row.name} may be used: effect {row.effect}, queue {row.queue}, version {row.version}.")

    def _disable(self, options: dict[str, Any]) -> None:
        done = admission.disable(options["name"], actor=ACTOR, reason=options["reason"])
        self.stdout.write(f"{options['name']} is disabled." if done else f"{options['name']} was disabled before.")

    def _scaffold(self, options: dict[str, Any]) -> None:
        for path in scaffold.make(options["name"], options["folder"]):
            self.stdout.write(str(path))
        self.stdout.write(f"\nRun its tests: bin/manage plugin test {options['folder']}")

    def _test(self, options: dict[str, Any]) -> None:
        folder = options["folder"].absolute()
        if not (folder / "pyproject.toml").is_file():
            raise CommandError(f"{folder} has no pyproject.toml.", returncode=REFUSED)
        environment = {**os.environ, "PYTHONPATH": str(settings.BASE_DIR), "DJANGO_SETTINGS_MODULE": _SETTINGS}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(folder),
            str(folder),
        ]
        sys.exit(subprocess.run(command, cwd=folder, env=environment, check=False).returncode)

    def _row(self, name: str) -> ToolDefinition:
        row = ToolDefinition.objects.filter(name=name).first()
        if row is None:
            raise admission.Refused(f"There is no tool {name!r} by others. `plugin sync` looks for them.")
        return row


_SETTINGS = "config.settings.test"


def _facts(row: ToolDefinition) -> dict[str, Any]:
    return {
        "name": row.name,
        "origin": row.origin,
        "state": admission.state_of(row),
        "sha256": row.found_sha256,
        "accepted": row.pinned_sha256,
        "effect": row.effect,
        "queue": row.queue,
        "version": row.version,
        "problem": row.problem,
    }
