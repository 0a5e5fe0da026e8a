"""A tool of an MCP server, as the registry has it: the accepted definition, called in the job's session."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import mcp_types
from django.utils import timezone

from audit.actor import Actor
from tools import secrets
from tools.box import SandboxBox
from tools.definitions import digest_of
from tools.errors import ToolDisabled, ToolFailed
from tools.mcp import noting, sessions
from tools.mcp.defining import found_of
from tools.mcp.models import McpServer
from tools.mcp.results import result_of
from tools.mcp.session import Cancelled, Gone, NoAnswer, Session, TimeUp
from tools.models import ToolDefinition
from tools.spec import Box, Effect, Limits, Result, Risk, RiskScore, Tool

_OPENING_S = 60.0  # for a server that must be started first, beyond the call's own time
_SHOWN_MAX = 1500


def build(row: ToolDefinition) -> Tool:
    """The tool of this accepted row.

    Raises:
        ToolDisabled: its server is off, gone, or is started or reached in another way than was accepted.
    """
    tool = McpTool(row)
    tool.server()
    return tool


class McpTool(Tool):
    """One tool of one server, made of its row: nothing of it but the call comes from the server while it runs."""

    def __init__(self, row: ToolDefinition) -> None:
        pinned: Mapping[str, Any] = row.pinned or {}
        self.facts: Mapping[str, Any] = pinned.get("mcp", {})
        self.pinned_sha256 = row.pinned_sha256
        self.timeout_s = float(pinned.get("limits", {}).get("timeout_s", 120))
        made = {
            "name": row.name,
            "summary": pinned.get("summary", ""),
            "schema": dict(pinned.get("schema", {})),
            "effect": Effect(row.effect or Effect.ONCE),
            "queue": row.queue,
            "limits": Limits(timeout_s=self.timeout_s + _OPENING_S),
        }
        for attribute, value in made.items():  # of this instance: the class's own would be every such tool's
            setattr(self, attribute, value)

    @property
    def sends(self) -> bool:
        """Do its arguments leave this machine, or may they?"""
        reached: Mapping[str, Any] = self.facts.get("reached", {})
        return reached.get("transport") != McpServer.Transport.STDIO or bool(reached.get("network"))

    def server(self) -> McpServer:
        """Its server's row, as it is now. Raises ToolDisabled."""
        name = str(self.facts.get("server", ""))
        row = McpServer.objects.filter(name=name).first()
        if row is None:
            raise ToolDisabled(f"There is no MCP server {name!r} any more.")
        if not row.enabled:
            raise ToolDisabled(f"The MCP server {name} is switched off.")
        if row.facts() != self.facts.get("reached"):
            raise ToolDisabled(f"The MCP server {name} is started or reached in another way than was accepted.")
        return row

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        reached: Mapping[str, Any] = self.facts.get("reached", {})
        reasons = [f"asks {self.facts.get('server')}, an MCP server by others; what it answers is untrusted"]
        if reached.get("transport") == McpServer.Transport.HTTP:
            reasons.append(f"its arguments go to {reached.get('url')}, outside this server")
        elif hosts := reached.get("network"):
            reasons.append(f"it runs in the sandbox, and may reach {', '.join(hosts[:5])}")
        if reached.get("secret") or reached.get("secrets"):
            reasons.append("it is given a secret")
        destructive = bool(self.facts.get("hints", {}).get("destructiveHint"))
        if destructive:
            reasons.append("it says of itself that it can destroy")
        return RiskScore(level=Risk.HIGH if destructive else Risk.MEDIUM, reasons=tuple(reasons))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        text = json.dumps(dict(arguments), ensure_ascii=False, sort_keys=True)
        return f"{self.facts.get('tool')} on the MCP server {self.facts.get('server')}: {text}"[:_SHOWN_MAX]

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        """What would be sent: nobody but the server can say what it would do."""
        asked = json.dumps(dict(arguments), ensure_ascii=False, indent=2, sort_keys=True)
        return f"{self.facts.get('tool')} on the MCP server {self.facts.get('server')}\n{asked}\n"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        if not isinstance(box, SandboxBox):
            raise ToolFailed("An MCP server needs the sandbox's own box.")
        server = self.server()
        began = datetime.now(UTC)
        try:
            session = sessions.session_for(server, box, tool=self.name, log=box.log)
        except Gone as error:
            error.transient = self.effect is not Effect.ONCE  # nothing was asked of it
            raise
        try:
            self._unchanged(server, session, box)
            answer = self._asked(session, arguments, box)
        except (Cancelled, TimeUp):
            if server.transport == McpServer.Transport.STDIO:
                session.close(wait_s=10.0)  # what it would still do ends with it
            raise
        finally:
            if server.idle_s == 0:
                session.close(wait_s=10.0)
            sessions.account(session, box, began)
        return result_of(answer, box, server=server.name, tool=str(self.facts.get("tool")), era=session.era)

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        raise ToolFailed("Whether the MCP server did it cannot be told from here.")

    def _asked(self, session: Session, arguments: Mapping[str, Any], box: SandboxBox) -> mcp_types.CallToolResult:
        """A call without an answer may have happened: of what happens once, a person finds out (`transient`)."""
        try:
            return session.call(
                str(self.facts.get("tool")),
                arguments,
                timeout_s=min(self.timeout_s, box.left_s()),
                cancelled=box.cancelled,
                log=box.log,
            )
        except Gone as error:
            error.transient = True
            raise
        except (Cancelled, TimeUp, NoAnswer) as error:
            error.transient = self.effect is Effect.ONCE
            raise

    def _unchanged(self, server: McpServer, session: Session, box: Box) -> None:
        """Raises ToolDisabled where the server describes the tool in another way than was accepted; that is noted."""
        tools = session.listed(cancelled=box.cancelled, log=box.log)
        if _same(session, server, tools).get(self.name) == self.pinned_sha256:
            return
        found = found_of(server, tools.values())
        worker = secrets.current().worker
        actor = Actor.worker(worker) if worker else Actor.system("mcp")
        noting.note(server, found, now=timezone.now(), actor=actor)
        raise ToolDisabled(
            f"The MCP server {server.name} describes {self.name} in another way than was accepted: "
            "an administrator has to look at the change."
        )


def _same(session: Session, server: McpServer, tools: Mapping[str, mcp_types.Tool]) -> Mapping[str, str]:
    """{name of a usable tool: the digest of its definition}, worked out once for each listing of a session."""
    known = session.known
    if known is None or known[0] is not tools or known[1] != server.timeout_s:
        found = [one for one in found_of(server, tools.values()) if not one.problem]
        session.known = known = (tools, server.timeout_s, {one.name: digest_of(one.definition) for one in found})
    return known[2]
