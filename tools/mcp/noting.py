"""Writes down what a server's tools are now. What the rows say of other servers stays as it is."""

from collections.abc import Iterable
from datetime import datetime

from django.db import connection, transaction

from audit.actor import Actor
from tools import admission
from tools.admission import Found
from tools.mcp import KIND
from tools.mcp.models import McpServer
from tools.mcp.naming import origin_of
from tools.models import ToolDefinition


@transaction.atomic
def note(server: McpServer, found: Iterable[Found], *, now: datetime, actor: Actor) -> list[ToolDefinition]:
    """These are the server's tools, and no others. Gives the rows that changed."""
    _one_at_a_time()
    return admission.note([*_others(server.name), *found], kind=KIND, now=now, actor=actor)


@transaction.atomic
def note_way(server: McpServer, *, now: datetime, actor: Actor) -> list[ToolDefinition]:
    """The server is started or reached as its row says now: tools that were accepted otherwise are out of use."""
    _one_at_a_time()
    mine = [
        Found(name=row.name, origin=row.origin, definition=_with_way(row, server), problem=row.problem)
        for row in ToolDefinition.objects.filter(origin=origin_of(server.name))
    ]
    return admission.note([*_others(server.name), *mine], kind=KIND, now=now, actor=actor)


def _with_way(row: ToolDefinition, server: McpServer) -> dict[str, object]:
    return {
        **row.definition,
        "limits": {"timeout_s": server.timeout_s},
        "mcp": {**row.definition.get("mcp", {}), "reached": server.facts()},
    }


def _others(name: str) -> list[Found]:
    rows = ToolDefinition.objects.filter(origin__startswith=f"{KIND}:").exclude(origin=origin_of(name))
    return [Found(name=row.name, origin=row.origin, definition=row.definition, problem=row.problem) for row in rows]


def _one_at_a_time() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('tools.mcp.noting'))")
