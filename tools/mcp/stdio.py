"""A stdio server as a command in the job's sandbox: started when a session opens, gone when it closes."""

import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from django.db import connections
from mcp.client._transport import TransportStreams

from tools.box import SandboxBox
from tools.egress.allowlist import Allowlist
from tools.errors import ToolError
from tools.mcp.models import McpServer
from tools.mcp.pipes import pipe_streams
from tools.sandbox.process import Talk
from tools.spec import Completed, Limits

SESSION_MAX_S = 4 * 3600.0
_LIMITS = Limits(timeout_s=SESSION_MAX_S, output_head_bytes=4096, output_tail_bytes=4096, output_kill_bytes=64 * 2**20)
_LEAVES_S = 1.0  # for a server to go by itself once its input is closed
_ENDS_S = 6.0  # for the sandbox to end it
_LOOK_S = 0.02


class StdioWay:
    """How a session reaches its server. box: of the call that opens it; env: secrets included; say: gets what the server
    writes to its errors."""

    def __init__(self, server: McpServer, box: SandboxBox, env: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._server = server
        self._env = dict(env)
        self._closing = threading.Event()
        self._done = threading.Event()
        self._ended = ""
        self._broke = ""
        self.box = box.lasting(limits=_LIMITS, on_output=lambda stream, text: say(text), cancelled=self._closing.is_set)

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[TransportStreams]:
        """Starts the server; ends it whatever happens."""
        theirs_in, ours_out = os.pipe2(os.O_CLOEXEC)
        ours_in, theirs_out = os.pipe2(os.O_CLOEXEC)
        for descriptor in (ours_in, ours_out):
            os.set_blocking(descriptor, False)
        runner = threading.Thread(
            target=self._run, args=(Talk(theirs_in, theirs_out),), name=f"mcp-{self._server.name}", daemon=True
        )
        try:
            runner.start()
            async with pipe_streams(ours_in, ours_out, self._breaks) as streams:
                yield streams
        finally:
            os.close(ours_out)
            with anyio.CancelScope(shield=True):
                if not await self._gone(_LEAVES_S):
                    self._closing.set()
                    await self._gone(_ENDS_S)
            os.close(ours_in)

    def over(self) -> bool:
        """Is there no server any more, or nothing left that it could serve?"""
        return self._done.is_set() or not self.box.workspace.root.exists()

    def words(self) -> str:
        """What it did that ended the session, or how it ended and the last of what it wrote; "" while it runs."""
        if not self._broke:
            self._done.wait(0.5)  # its pipes close a moment before
        return self._broke or self._ended

    def _breaks(self, why: str) -> None:
        self._broke = why

    async def _gone(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            while not self._done.is_set():
                await anyio.sleep(_LOOK_S)
        return self._done.is_set()

    def _run(self, talk: Talk) -> None:
        server = self._server
        try:
            done = self.box.run(
                [server.command, *self._arguments()],
                env={**server.env, **self._env},
                profile=server.profile,
                extra_read=[Path(path) for path in server.paths],
                network=Allowlist.parse(server.network) if server.network else None,
                talk=talk,
            )
            self._ended = _words(done)
        except ToolError as error:
            self._ended = error.message
        except Exception as error:
            self._ended = f"{type(error).__name__}: {error}"
        finally:
            talk.close()
            connections.close_all()
            self._done.set()

    def _arguments(self) -> list[str]:
        place = self.box.workspace
        stand_for = {"{tree}": place.tree, "{repo}": place.git_dir, "{scratch}": place.scratch}
        return [_replaced(word, stand_for) for word in self._server.args]


def _replaced(word: str, stand_for: Mapping[str, Path]) -> str:
    for name, path in stand_for.items():
        word = word.replace(name, str(path))
    return word


def _words(done: Completed) -> str:
    how = done.ended_by or (f"signal {done.signal}" if done.signal else f"exit code {done.exit_code}")
    return f"it ended ({how}). {done.stderr[-600:].strip()}".strip()
