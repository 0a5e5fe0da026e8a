"""MCP servers for tests: those by others, where they are installed, and one of our own that does what it is told."""

import os
import shutil
from pathlib import Path

import pytest
from django.utils import timezone

from audit.actor import Actor
from tools import admission
from tools.mcp import changing, inspecting
from tools.mcp.models import McpServer
from tools.models import ToolDefinition

BY = Actor.system("test")
TOLD = Path(__file__).resolve().with_name("mcp_stdio.py")
PYTHON = "/usr/bin/python3"


def need(kind: str) -> Path:
    """The folder of the servers for "python" or "node". The test is skipped where they are not installed and could not be;
    with REQUIRE_MCP_SERVERS=1 it fails."""
    folder = _place()
    if (folder / f"{kind}.done").exists() and (kind != "node" or shutil.which("node")):
        return folder / kind
    why = f"the MCP servers for {kind} are not installed: tests/install_mcp_servers.sh does it"
    if os.environ.get("REQUIRE_MCP_SERVERS"):
        pytest.fail(why)
    pytest.skip(why)


def _place() -> Path:
    """As the script chooses it."""
    if given := os.environ.get("MCP_SERVERS_DIR"):
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/cache/countersign-tests/mcp-servers")
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "countersign-tests" / "mcp-servers"


def python_server(name: str, program: str, *args: str, **more: object) -> McpServer:
    """A row for one of PyPI's."""
    folder = need("python")
    return made(name, command=str(folder / "bin" / program), args=list(args), paths=[str(folder)], **more)


def node_server(name: str, package: str, *args: str, **more: object) -> McpServer:
    """A row for one of npm's."""
    folder = need("node")
    script = folder / "node_modules" / "@modelcontextprotocol" / package / "dist" / "index.js"
    return made(name, command="node", args=[str(script), *args], paths=[str(folder)], **more)


def told(folder: Path, *behaviours: str, name: str = "told", **more: object) -> McpServer:
    """A row for the server of our own; `folder` can be reached by the sandbox's user, and gets its program."""
    shutil.copyfile(TOLD, folder / TOLD.name)
    (folder / TOLD.name).chmod(0o644)
    fields = {"command": PYTHON, "args": ["-S", str(folder / TOLD.name), *behaviours], "paths": [str(folder)], **more}
    return made(name, **fields)


def made(name: str, **fields: object) -> McpServer:
    server = McpServer(name=name, **fields)
    changing.save(server, now=timezone.now(), actor=BY)
    return server


def look(server: McpServer) -> inspecting.Looked:
    server.refresh_from_db()
    return inspecting.look(server, now=timezone.now(), actor=BY)


def row(name: str) -> ToolDefinition:
    return ToolDefinition.objects.get(name=name)


def enable(*names: str, effect: str = "read") -> None:
    for name in names:
        admission.enable(name, sha256=row(name).found_sha256, by=None, now=timezone.now(), actor=BY, effect=effect)
