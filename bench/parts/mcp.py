"""What a call of an MCP server's tool takes beyond the server's own time: the tool alone, and through the one door."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.db import connections

from audit.actor import Actor
from audit.ids import uuid7
from bench.parts.figures import Figure, median, percentile
from bench.parts.servers import Servers
from tools import admission, mcp, permits, registry, runner
from tools.box import SandboxBox
from tools.mcp import changing, sessions
from tools.mcp.models import McpServer
from tools.models import ToolDefinition
from tools.spec import Call
from tools.workspaces import workspace_for

PROGRAM = Path(__file__).with_name("mcp_echo.py")
PYTHON = "/usr/bin/python3"
TOOL = "mcp.echo.echo"
TEXT = {"text": "hello " * 20}
REACH_MS = 10.0
_BY = Actor.system("bench")


def figures(servers: Servers, *, quick: bool) -> list[Figure]:
    """Calls of one open session, in turn with the same question asked of a bare process of the same server."""
    settings.WORKSPACE_DIR = servers.folder / "workspaces"
    folder = servers.folder / "mcp"
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)
    program = folder / PROGRAM.name
    shutil.copyfile(PROGRAM, program)
    program.chmod(0o644)
    _accepted(program, folder)
    try:
        return _side_by_side(program, rounds=150 if quick else 3000)
    finally:
        sessions.close_all(wait_s=10)
        connections.close_all()


def _accepted(program: Path, folder: Path) -> None:
    server = McpServer(name="echo", command=PYTHON, args=["-S", str(program)], paths=[str(folder)])
    changing.save(server, now=datetime.now(UTC), actor=_BY)
    mcp.look(server, now=datetime.now(UTC), actor=_BY)
    found = ToolDefinition.objects.get(name=TOOL)
    admission.enable(TOOL, sha256=found.found_sha256, by=None, now=datetime.now(UTC), actor=_BY, effect="read")


def _side_by_side(program: Path, *, rounds: int) -> list[Figure]:
    tool = registry.get(TOOL, at_once=True)
    place = workspace_for(str(uuid7()))
    call = Call(tool=TOOL, schema_version=tool.schema_version, arguments=TEXT, workspace_id=place.id)
    bare: list[float] = []
    alone: list[float] = []
    door: list[float] = []
    first = _timed(lambda: tool.run(TEXT, SandboxBox(place, limits=tool.limits, call_id="")))
    with _bare(program) as ask:
        for number in range(rounds + 10):
            took = (
                _timed(ask),
                _timed(lambda: tool.run(TEXT, SandboxBox(place, limits=tool.limits, call_id=""))),
                _timed(lambda: _through(call)),
            )
            if number >= 10:
                for kept, one in zip((bare, alone, door), took, strict=True):
                    kept.append(one)
    added = [one - other for one, other in zip(alone, bare, strict=True)]
    added_door = [one - other for one, other in zip(door, bare, strict=True)]
    return [
        Figure(name="an MCP server's own time, p50", value=median(bare) * 1000, unit="ms"),
        Figure(name="the first call of a job, which starts it", value=first * 1000, unit="ms"),
        Figure(name="added to an MCP call, p50", value=median(added) * 1000, unit="ms", reach=REACH_MS, at_least=False),
        Figure(name="added to an MCP call, p95", value=percentile(added, 95) * 1000, unit="ms"),
        Figure(name="added with permit and checks at the door, p50", value=median(added_door) * 1000, unit="ms"),
    ]


def _through(call: Call) -> None:
    now = datetime.now(UTC)
    subject = str(uuid7())
    permit = permits.issue(subject=subject, digest=call.digest(), granted_by="bench", now=now)
    runner.run(
        call,
        permit.pk,
        worker="bench",
        on_output=lambda stream, text: None,
        cancelled=lambda: False,
        subject=subject,
        now=now,
    )


@contextmanager
def _bare(program: Path) -> Iterator[Callable[[], None]]:
    """Asks a process of the server that nothing holds, with a line, and reads the line that it answers."""
    process = subprocess.Popen([PYTHON, "-S", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    asks, answers = process.stdin, process.stdout
    assert asks is not None and answers is not None
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": TEXT}}
    line = json.dumps(asked).encode() + b"\n"

    def ask() -> None:
        asks.write(line)
        asks.flush()
        answers.readline()

    try:
        yield ask
    finally:
        asks.close()
        answers.close()
        process.wait(10)


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
