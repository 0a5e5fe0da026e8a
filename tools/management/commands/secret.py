"""`manage.py secret list|check|add|enable|disable`."""

import json
import sys
from argparse import SUPPRESS  # a default that overwrites nothing that stood before the action's name
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.actor import Actor
from tools.errors import InvalidArguments, ToolError
from tools.models import SecretHandle
from tools.secrets.changing import add, set_enabled
from tools.secrets.checking import folder_problem, problems

ACTOR = Actor.system("manage.py")
WRONG, REFUSED = 1, 3
LISTS = {
    "tool": ("tools", "which tools may use it: shell.exec, git.*"),
    "agent": ("agents", "which agents; default: every job"),
    "group": ("groups", "members of which groups; default: everybody"),
    "host": ("hosts", "where it may be sent: api.example.org"),
    "variable": ("env_names", "in which variable a command may have it: NPM_TOKEN"),
}


class Command(BaseCommand):
    help = (
        "Secrets that agents use by name: lists handles, checks that their values are there (never shown), adds one, "
        "takes it out of use. Exits with 1 where a check finds something, and 3 where it is refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="handles, who may use them, and when they were used")
        check = actions.add_parser("check", help="are the values there, and closed to others?")
        check.add_argument("names", nargs="*", metavar="NAME", help="default: all that are in use")
        adding = actions.add_parser("add", help="a new handle; the value stays where it is")
        place = adding.add_mutually_exclusive_group(required=True)
        place.add_argument("--file", metavar="PATH", help="beneath SECRETS_DIR")
        place.add_argument("--env", metavar="NAME", help="a variable of the workers: AGENT_SECRET_…")
        adding.add_argument("--description", default="", metavar="WORDS")
        for option, (field, told) in LISTS.items():
            adding.add_argument(f"--{option}", dest=field, action="append", default=[], metavar="NAME", help=told)
        enable = actions.add_parser("enable", help="lets a handle be used again")
        disable = actions.add_parser("disable", help="takes a handle out of use")
        for one in (adding, enable, disable):
            one.add_argument("name", metavar="NAME")
        for one in (listing, check, adding, enable, disable):
            one.add_argument("--json", action="store_true", default=SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except ToolError as error:
            field = error.field if isinstance(error, InvalidArguments) else ""
            if options["json"]:
                self.stdout.write(json.dumps({"code": error.code, "field": field, "detail": error.message}))
                sys.exit(REFUSED)
            raise CommandError(f"{field}: {error.message}" if field else error.message, returncode=REFUSED) from None

    def _list(self, options: dict[str, Any]) -> None:
        told = [_facts(handle) for handle in SecretHandle.objects.all()]
        if options["json"]:
            self.stdout.write(json.dumps({"secrets": told}))
            return
        if not told:
            self.stdout.write("There are no secrets: manage.py secret add.")
        for one in told:
            state = "" if one["enabled"] else "  OUT OF USE"
            self.stdout.write(f"{one['name']}  ({one['source']} {one['place']}){state}")
            self.stdout.write(
                f"  tools {_words(one['tools'])}; agents {_words(one['agents'])}; groups {_words(one['groups'])}"
            )
            self.stdout.write(f"  to hosts {_words(one['hosts'])}; in variables {_words(one['env_names'])}")
            self.stdout.write(f"  changed {one['rotated_at'] or 'never seen'}; used {one['last_used_at'] or 'never'}")

    def _check(self, options: dict[str, Any]) -> None:
        handles = list(SecretHandle.objects.all())
        missing = sorted(set(options["names"]) - {handle.name for handle in handles})
        if missing:
            raise CommandError(f"There is no secret {', '.join(missing)}.", returncode=REFUSED)
        chosen = [one for one in handles if (one.name in options["names"] if options["names"] else one.enabled)]
        found = {handle.name: problems(handle) for handle in chosen}
        folder = folder_problem()
        if options["json"]:
            self.stdout.write(json.dumps({"secrets": found, "folder": folder}))
        else:
            for name, wrong in found.items():
                self.stdout.write(f"{'FAIL' if wrong else 'ok  '} {name}{': ' if wrong else ''}{'; '.join(wrong)}")
            if folder:
                self.stdout.write(f"FAIL {folder}")
        if folder or any(found.values()):
            sys.exit(WRONG)

    def _add(self, options: dict[str, Any]) -> None:
        lists = {field: options[field] for field, _ in LISTS.values()}
        for field in ("agents", "groups"):
            lists[field] = lists[field] or ["*"]
        handle = add(
            actor=ACTOR,
            name=options["name"],
            description=options["description"],
            source=SecretHandle.Source.FILE if options["file"] else SecretHandle.Source.ENV,
            place=options["file"] or options["env"],
            **lists,
        )
        self._tell(handle, options, f"{handle.name} can be used now.")

    def _enable(self, options: dict[str, Any]) -> None:
        self._tell(set_enabled(options["name"], enabled=True, actor=ACTOR), options, "It can be used again.")

    def _disable(self, options: dict[str, Any]) -> None:
        self._tell(set_enabled(options["name"], enabled=False, actor=ACTOR), options, "Nobody can use it any more.")

    def _tell(self, handle: SecretHandle, options: dict[str, Any], words: str) -> None:
        self.stdout.write(json.dumps(_facts(handle)) if options["json"] else words)


def _words(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _facts(handle: SecretHandle) -> dict[str, Any]:
    names = ("name", "description", "source", "place", "tools", "agents", "groups", "hosts", "env_names", "enabled")
    moments = {
        name: moment.isoformat() if (moment := getattr(handle, name)) else None
        for name in ("created_at", "rotated_at", "last_used_at")
    }
    return {**{name: getattr(handle, name) for name in names}, **moments}
