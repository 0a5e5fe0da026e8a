"""MCP servers for tests: those by others, where they are installed, and one of our own that does what it is told."""

import os
import shutil
from pathlib import Path
from typing import Never

import pytest
from django.utils import timezone

from audit.actor import Actor
from config.devstack import nodepackages
from tools import admission
from tools.mcp import changing, inspecting
from tools.mcp.models import McpServer
from tools.models import ToolDefinition

BY = Actor.system("test")
TOLD = Path(__file__).resolve().with_name("mcp_stdio.py")
PYTHON = "/usr/bin/python3"


def need(why: str, *, required: bool) -> Never:
    """Skips the test for this reason; where continuous integration says that they are there, it fails."""
    if required and os.environ.get(nodepackages.REQUIRED):
        pytest.fail(why)
    pytest.skip(why)


def python_server(name: str, program: str, *args: str, **more: object) -> McpServer:
    """A row for one of PyPI's."""
    given = os.environ.get("MCP_PYTHON_DIR", "")
    command = Path(given) / "venv" / "bin" / program
    if not given or not command.exists():
        need("MCP_PYTHON_DIR names no folder of tests/install_mcp_servers.sh", required=bool(given))
    return made(name, command=str(command), args=list(args), paths=[given], **more)


def node_server(name: str, program: str, *args: str, **more: object) -> McpServer:
    """A row for one of npm's."""
    found = nodepackages.find(program)
    if found is None:
        need(f"{nodepackages.FOLDER} names no folder of config.devstack.nodepackages with {program}", required=True)
    command, script = found
    paths = [os.environ[nodepackages.FOLDER]]
    return made(name, command=command, args=[script, *args], paths=paths, **more)


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
