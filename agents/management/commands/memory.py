"""`manage.py memory list|search|learn|forget|index`."""

import json
from argparse import SUPPRESS  # a default that overwrites nothing that stood before the action's name
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error
from django.utils import timezone

from agents.errors import AgentsError
from agents.memory import keeping, recall, vectors
from agents.memory.seen import scope_for, visible_memories, visible_memory
from agents.models import Memory
from agents.people import acting_user
from agents.selectors import visible_job
from agents.submit import submit


class Command(BaseCommand):
    help = (
        "Lists and searches what is remembered, lets a model learn from an ended job, forgets, and takes pgvector into "
        "use (index: as the role that owns the tables)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--as", dest="user", metavar="USER", help="who you are; else the only active superuser")
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="the newest first")
        listing.add_argument("--state", choices=Memory.State.values, default=Memory.State.ADMITTED)
        listing.add_argument("--limit", type=int, default=50)
        search = actions.add_parser("search", help="the best first, by words and by spelling")
        search.add_argument("query")
        search.add_argument("--limit", type=int, default=10)
        learn = actions.add_parser("learn", help="starts a job in which a model says what an ended job teaches")
        learn.add_argument("job", metavar="JOB")
        forget = actions.add_parser("forget", help="takes the words of a memory away for good")
        forget.add_argument("memory", metavar="ID")
        forget.add_argument("--why", default="")
        index = actions.add_parser("index", help="takes pgvector into use where the server has it, and makes indexes")
        for action in (listing, search, learn, forget, index):
            action.add_argument("--json", action="store_true", default=SUPPRESS)
            action.add_argument("--as", dest="user", metavar="USER", default=SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except AgentsError as error:
            raise CommandError(error.message) from None

    def _list(self, options: dict[str, Any]) -> None:
        rows = visible_memories(acting_user(options["user"])).filter(state=options["state"])
        found = rows.order_by("-created_at", "-pk")[: max(options["limit"], 1)]
        self._told(
            [{"id": str(one.pk), "kind": one.kind, "scope": one.scope, "text": one.text} for one in found], options
        )

    def _search(self, options: dict[str, Any]) -> None:
        scope = scope_for(acting_user(options["user"]))
        query, limit = options["query"], max(options["limit"], 1)
        found = recall.search(query, scope, vector=recall.lexical(query), now=timezone.now(), limit=limit)
        self._told(
            [{"id": str(one.id), "kind": one.kind, "scope": one.scope, "text": one.text} for one in found], options
        )

    def _learn(self, options: dict[str, Any]) -> None:
        user = acting_user(options["user"])
        of = visible_job(user, _id(options["job"]))
        payload: dict[str, Any] = {
            "title": f"Learn from {of.pk}",
            "steps": [{"key": "learn", "tool": "memory.learn", "arguments": {"job": str(of.pk)}}],
        }
        if of.agent is not None and of.agent.enabled:
            payload["agent"] = of.agent.name
        job, _ = submit(payload, user=user, now=timezone.now())
        self.stdout.write(json.dumps({"job": str(job.pk)}) if options["json"] else f"Job {job.pk} learns from it.")

    def _forget(self, options: dict[str, Any]) -> None:
        user = acting_user(options["user"])
        memory = visible_memory(user, _id(options["memory"]))
        keeping.decide(memory, "forget", by=user, why=options["why"], now=timezone.now())
        self.stdout.write(json.dumps({"forgotten": str(memory.pk)}) if options["json"] else "Forgotten.")

    def _index(self, options: dict[str, Any]) -> None:
        try:
            done = vectors.make_ready()
        except Error as error:
            raise CommandError(f"Use the role that owns the tables: {str(error).splitlines()[0]}") from None
        self.stdout.write(json.dumps({"done": done}) if options["json"] else "\n".join(done))

    def _told(self, found: list[dict[str, Any]], options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps({"memories": found}))
            return
        for one in found:
            self.stdout.write(f"{one['id']}  {one['kind']:<7}  {one['scope']}\n    {ascii(one['text'])[1:-1]}")


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise CommandError(f"{text!r} is no id.") from None
