"""`manage.py mcp list|add|look|on|off|remove`: MCP servers. Their tools are shown and enabled by `manage.py plugin`."""

import json
import shlex
import sys
from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from audit.actor import Actor
from tools import admission, mcp
from tools.errors import ToolError
from tools.mcp import changing
from tools.mcp.models import McpServer
from tools.mcp.naming import origin_of
from tools.models import ToolDefinition

ACTOR = Actor.system("manage.py")
REFUSED = 3


class Command(BaseCommand):
    help = "MCP servers whose tools may be used here: adds them, asks what tools they have, switches them off."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="the servers, and how many of their tools may be used")
        listing.add_argument("--json", action="store_true")
        add = actions.add_parser("add", help="adds a server: a command in the sandbox, or an address")
        add.add_argument("name", help="the middle word of its tools: git for mcp.git.status")
        add.add_argument("--description", default="")
        add.add_argument("--protocol", choices=McpServer.Protocol.values, default=McpServer.Protocol.AUTO)
        add.add_argument("--timeout", type=int, default=120, metavar="S", help="seconds that a call may take")
        add.add_argument("--url", default="", help="of a server over streamable HTTP")
        add.add_argument("--bearer", default="", metavar="HANDLE", help="the secret that is sent as a token")
        add.add_argument("--path", action="append", default=[], help="a folder that it may read: where it is installed")
        add.add_argument(
            "--env", action="append", default=[], metavar="NAME=VALUE", help="a variable that is no secret"
        )
        add.add_argument(
            "--secret", action="append", default=[], metavar="NAME=HANDLE", help="a variable with a secret"
        )
        add.add_argument("--host", action="append", default=[], help="a host that it may reach")
        add.add_argument("--profile", choices=McpServer.Profile.values, default=McpServer.Profile.READ)
        add.add_argument("--command", default="", help="the program and its arguments, quoted as for a shell")
        look = actions.add_parser("look", help="asks a server, or all, what tools they have; what changed is disabled")
        look.add_argument("name", nargs="?", default="")
        for action, words in (("on", "lets its tools be used again"), ("off", "no tool of its may be used, at once")):
            actions.add_parser(action, help=words).add_argument("name")
        actions.add_parser("remove", help="forgets a server; its tools are gone").add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except ToolError as error:
            raise CommandError(error.message, returncode=REFUSED) from None

    def _list(self, options: dict[str, Any]) -> None:
        facts = [_facts(row) for row in McpServer.objects.all()]
        if options["json"]:
            self.stdout.write(json.dumps(facts))
            return
        for one in facts:
            state = one["problem"] or ("on" if one["enabled"] else "off")
            self.stdout.write(f"{one['name']}  {one['place']}  {one['in_use']} of {one['tools']} tools in use  {state}")
        if not facts:
            self.stdout.write("None. `mcp add` adds one.")

    def _add(self, options: dict[str, Any]) -> None:
        url = options["url"]
        try:
            command = shlex.split(options["command"])
        except ValueError as error:
            raise admission.Refused(f"--command cannot be read: {error}.") from None
        server = McpServer(
            name=options["name"],
            description=options["description"],
            protocol=options["protocol"],
            timeout_s=options["timeout"],
            transport=McpServer.Transport.HTTP if url else McpServer.Transport.STDIO,
            command=command[0] if command else "",
            args=command[1:],
            paths=options["path"],
            env=_pairs(options["env"]),
            secrets=_pairs(options["secret"]),
            network=options["host"],
            profile=options["profile"],
            url=url,
            auth=McpServer.Auth.BEARER if options["bearer"] else McpServer.Auth.NONE,
            secret=options["bearer"],
        )
        changing.save(server, now=timezone.now(), actor=ACTOR)
        self.stdout.write(f"{server.name} is there. `mcp look {server.name}` asks what tools it has.")

    def _look(self, options: dict[str, Any]) -> None:
        rows = [_row(options["name"])] if options["name"] else list(McpServer.objects.filter(enabled=True))
        failed = 0
        for row in rows:
            try:
                looked = mcp.look(row, now=timezone.now(), actor=ACTOR)
            except ToolError as error:
                failed += 1
                self.stderr.write(f"{row.name}: {error.message}")
                continue
            self.stdout.write(f"{row.name}: {looked.tools} tools, {len(looked.changed)} new or changed.")
            for one in looked.changed:
                self.stdout.write(f"  {one.name}: {admission.state_of(one)}. {one.problem}".rstrip())
        if failed:
            sys.exit(REFUSED)
        self.stdout.write(
            "`plugin show TOOL` shows a tool, `plugin enable TOOL --sha256 HEX --effect E` lets it be used."
        )

    def _on(self, options: dict[str, Any]) -> None:
        self._switch(options["name"], on=True)

    def _off(self, options: dict[str, Any]) -> None:
        self._switch(options["name"], on=False)

    def _switch(self, name: str, *, on: bool) -> None:
        row = _row(name)
        row.enabled = on
        changing.save(row, now=timezone.now(), actor=ACTOR)
        self.stdout.write(f"{name} is {'on' if on else 'off'}.")

    def _remove(self, options: dict[str, Any]) -> None:
        changing.remove(_row(options["name"]), now=timezone.now(), actor=ACTOR)
        self.stdout.write(f"{options['name']} is gone.")


def _row(name: str) -> McpServer:
    row = McpServer.objects.filter(name=name).first()
    if row is None:
        raise admission.Refused(f"There is no MCP server {name!r}.")
    return row


def _pairs(given: Iterable[str]) -> dict[str, str]:
    """Raises Refused."""
    pairs = [one.partition("=") for one in given]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise admission.Refused(f"{wrong[0]!r} is no NAME=VALUE.")
    return {name: value for name, _, value in pairs}


def _facts(row: McpServer) -> dict[str, Any]:
    tools = ToolDefinition.objects.filter(origin=origin_of(row.name))
    return {
        "name": row.name,
        "place": row.url or " ".join([row.command, *row.args]),
        "enabled": row.enabled,
        "problem": row.problem,
        "found": row.found,
        "tools": tools.count(),
        "in_use": tools.filter(enabled=True).count(),
    }
