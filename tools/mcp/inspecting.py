"""Asks a server for its tools: started or reached as a call would do it, in a workspace of its own that goes away again."""

from dataclasses import dataclass
from datetime import datetime

from audit.actor import Actor
from audit.ids import uuid7
from tools import secrets, workspaces
from tools.box import SandboxBox
from tools.errors import ToolError
from tools.mcp import KIND, noting, sessions
from tools.mcp.defining import found_of
from tools.mcp.models import McpServer
from tools.models import ToolDefinition
from tools.spec import Limits

_LIMITS = Limits(timeout_s=90.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """tools: how many it has; changed: the rows that are new or other than before."""

    tools: int
    changed: list[ToolDefinition]


def look(server: McpServer, *, now: datetime, actor: Actor) -> Looked:
    """Notes what the server has now; what became of it stands in its row.

    A server that cannot be asked leaves its tools as they are: each call finds out by itself.

    Raises:
        ToolError: it cannot be started or reached, or may not have a secret that it needs.
    """
    place = workspaces.workspace_for(str(uuid7()))
    try:
        box = SandboxBox(place, limits=_LIMITS, call_id="")
        if any("{tree}" in word or "{repo}" in word for word in server.args):
            _make_repository(box)
        with secrets.acting("", purpose="look"):
            session = sessions.opened(server, box, tool=f"{KIND}.{server.name}.look", log=lambda text: None)
        tools, said = dict(session.tools), dict(session.said)
        session.close(wait_s=10.0)
    except ToolError as error:
        McpServer.objects.filter(pk=server.pk).update(problem=error.message[:2000], found_at=now)
        raise
    finally:
        workspaces.remove(place.id)
    McpServer.objects.filter(pk=server.pk).update(problem="", found=said, found_at=now)
    changed = noting.note(server, found_of(server, tools.values()), now=now, actor=actor)
    return Looked(tools=len(tools), changed=changed)


def _make_repository(box: SandboxBox) -> None:
    """As a job's workspace has one: some servers do not start without."""
    place = box.workspace
    box.run(
        ["git", "init", "--quiet", f"--separate-git-dir={place.git_dir}", str(place.tree)], profile="git", stream=False
    )
