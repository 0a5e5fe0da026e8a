"""What people do with the rows of servers; each change is on record."""

from datetime import datetime
from uuid import uuid4

from django.core.exceptions import ValidationError
from django.db import transaction

from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from tools.errors import ToolError
from tools.mcp import noting
from tools.mcp.models import McpServer
from tools.models import ToolDefinition


class BadServer(ToolError):
    """The row says what could never work. `details` holds what is wrong, by field."""

    code = "mcp_bad_server"


@transaction.atomic
def save(server: McpServer, *, now: datetime, actor: Actor) -> list[ToolDefinition]:
    """Saves a new or changed row. Tools that were accepted with another way to reach it are out of use at once: they are
    given back.

    Raises:
        BadServer
    """
    try:
        server.full_clean()
    except ValidationError as error:
        wrong = error.message_dict
        first = next(iter(wrong))
        raise BadServer(f"{first}: {wrong[first][0]}", **wrong) from None
    new = server._state.adding
    before = None if new else McpServer.objects.select_for_update().filter(pk=server.pk).first()
    server.revision = uuid4()
    server.save()
    record(
        Event.MCP_SERVER_CHANGED,
        actor=actor,
        target=Target(type="mcp_server", id=server.name),
        outcome="added" if before is None else "ok",
        context={"enabled": server.enabled},
        payload={"was": before.facts() if before else {}, "now": server.facts()},
    )
    return noting.note_way(server, now=now, actor=actor)


@transaction.atomic
def remove(server: McpServer, *, now: datetime, actor: Actor) -> list[ToolDefinition]:
    """Deletes the row; its tools are gone. Gives their rows."""
    name = server.name
    changed = noting.note(server, [], now=now, actor=actor)
    McpServer.objects.filter(pk=server.pk).delete()
    record(Event.MCP_SERVER_CHANGED, actor=actor, target=Target(type="mcp_server", id=name), outcome="removed")
    return changed
