"""Tools of MCP servers: found there, accepted one by one, and called through the one door like any other.

`models` are the servers as rows, `naming` and `defining` turn what they say into definitions, `stdio` and `web` reach them,
`session` talks to one, `sessions` keeps one session a job, `calling` is a tool of theirs, `inspecting` asks what they have,
`noting` and `changing` write it down.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from audit.actor import Actor
    from tools.mcp.inspecting import Looked
    from tools.mcp.models import McpServer
    from tools.models import ToolDefinition
    from tools.spec import Tool

KIND = "mcp"


def build(row: "ToolDefinition") -> "Tool":
    """See `tools.mcp.calling.build`. The client's library takes half a second to import: only who needs it pays."""
    made: Tool = importlib.import_module("tools.mcp.calling").build(row)
    return made


def look(server: "McpServer", *, now: "datetime", actor: "Actor") -> "Looked":
    """See `tools.mcp.inspecting.look`."""
    looked: Looked = importlib.import_module("tools.mcp.inspecting").look(server, now=now, actor=actor)
    return looked
