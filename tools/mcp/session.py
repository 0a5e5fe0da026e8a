"""One session with one server: a task in the portal's loop, used by worker threads through futures."""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import anyio
import mcp_types
from mcp import Client
from mcp.client._transport import TransportStreams
from mcp.shared.exceptions import MCPError

from tools.errors import ToolError, ToolFailed
from tools.mcp import reading
from tools.mcp.defining import TOOLS_MAX
from tools.mcp.portal import portal

log = logging.getLogger(__name__)

OPEN_S = 40.0
RELIST_S = 60.0
_PAGES_MAX = 50
_TURN_S = 0.1  # how soon a call that is cancelled is seen to be
_TICK_S = 2.0
_NOTES_MAX = 1000
_CLIENT = mcp_types.Implementation(name="countersign", version="1")


class Cancelled(ToolFailed):
    code = "cancelled"


class TimeUp(ToolFailed):
    """The server did not answer within the time that the call had."""

    code = "timeout"


class Gone(ToolFailed):
    """The session ended, or never began."""

    code = "mcp_gone"


class NoAnswer(ToolFailed):
    """What came is no answer by the protocol, or does not fit what the server said that it would be."""

    code = "mcp_no_answer"


class Way(Protocol):
    """How a server is reached: `tools.mcp.stdio`, `tools.mcp.sessions`."""

    def streams(self) -> AbstractAsyncContextManager[TransportStreams]: ...

    def over(self) -> bool: ...

    def words(self) -> str: ...


Log = Callable[[str], None]


class Session:
    """name: of the server, for people; mode: of the protocol ("auto", "legacy", "2026-07-28"); idle_s: closes itself after
    so long without a call."""

    def __init__(self, name: str, way: Callable[[Callable[[str], None]], Way], *, mode: str, idle_s: float) -> None:
        self.name = name
        self.way = way(self._say)
        self.tools: dict[str, mcp_types.Tool] = {}
        self.era = ""
        self.said: dict[str, str] = {}
        # of the listing that it was worked out from, for a time limit: the digest of each tool's definition
        self.known: tuple[Mapping[str, mcp_types.Tool], int, Mapping[str, str]] | None = None
        self._mode = mode
        self._idle_s = idle_s
        self._client: Client | None = None
        self._ready: Future[None] = Future()
        self._closing = threading.Event()
        self._woken = anyio.Event()
        self._lock = threading.Lock()
        self._calls: list[SimpleQueue[str]] = []
        self._used_s = time.monotonic()
        self._listed_s = -math.inf
        self._ended: Future[None] | None = None

    # for worker threads

    def open(self) -> None:
        """Begins; `wait_open` tells what becomes of it."""
        self._ended = portal().start_task_soon(self._live)

    def wait_open(self, *, cancelled: Callable[[], bool], log: Log) -> None:
        """Raises Gone, Cancelled: the server did not start, or not in time, or does not speak MCP."""
        with _Listening(self, log) as heard:
            _waited(self._ready, OPEN_S + 15.0, cancelled, heard.pass_on, self.name)

    @property
    def over(self) -> bool:
        return self._closing.is_set() or self.way.over() or (self._ended is not None and self._ended.done())

    @property
    def idle_since_s(self) -> float:
        """When its last call ended; infinity while one runs."""
        with self._lock:
            return math.inf if self._calls else self._used_s

    def listed(self, *, cancelled: Callable[[], bool], log: Log) -> Mapping[str, mcp_types.Tool]:
        """What tools the server has: asked again where it said that they changed, and once a minute.

        Raises:
            ToolFailed
        """
        if time.monotonic() - self._listed_s > RELIST_S:
            with _Listening(self, log) as heard:
                _waited(self._soon(self._list), OPEN_S, cancelled, heard.pass_on, self.name)
        return self.tools

    def call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        timeout_s: float,
        cancelled: Callable[[], bool],
        log: Log,
    ) -> mcp_types.CallToolResult:
        """The server's answer. `log` gets its progress and its notes as they come, in this thread.

        Raises:
            Cancelled, TimeUp (the server is told, in both cases), Gone, NoAnswer: whether it did it cannot be told.
            ToolFailed: it answered with an error.
        """
        with _Listening(self, log) as heard:

            async def progress(done: float, total: float | None, message: str | None) -> None:
                heard.put(" ".join(filter(None, (_share(done, total), message)))[:2000] + "\n")

            future = self._soon(self._call, tool, dict(arguments), progress)
            try:
                found: mcp_types.CallToolResult = _waited(future, timeout_s, cancelled, heard.pass_on, self.name)
            except Gone as error:
                self.close()
                words = self.way.words()
                raise Gone(f"{error.message.rstrip('.')}: {words}" if words else error.message) from None
            return found

    def close(self, *, wait_s: float = 0.0) -> None:
        """Ends it, and its server with it where it has one of its own."""
        self._closing.set()
        if self._ended is not None and not self._ended.done():
            portal().start_task_soon(self._wake)
            wait([self._ended], wait_s)

    def _soon(self, what: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        if self.over:
            raise Gone(self._sentence("the session has ended"))
        return portal().start_task_soon(what, *arguments)

    def _sentence(self, why: str) -> str:
        return f"The MCP server {self.name} is not there: {self.way.words() or why}"

    def _say(self, text: str) -> None:
        """What the server says to nobody in particular is heard by every call that runs."""
        with self._lock:
            calls = list(self._calls)
        for queue in calls:
            if queue.qsize() < _NOTES_MAX:
                queue.put(text)

    # in the portal's loop

    async def _live(self) -> None:
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + OPEN_S) as scope:
                async with Client(
                    self.way.streams(),
                    mode=self._mode,
                    cache=None,
                    client_info=_CLIENT,
                    logging_callback=self._logged,
                    message_handler=self._heard,
                ) as client:
                    self._client = client
                    self.era = client.protocol_version
                    self.said = _said(client)
                    await self._list()
                    scope.deadline = math.inf
                    self._ready.set_result(None)
                    await self._until_it_ends()
            if not self._ready.done():
                why = f"it did not answer within {OPEN_S:.0f} s."
                self._ready.set_exception(Gone(f"The MCP server {self.name} is not there: {why}"))
        except BaseException as error:
            why = _why(error)
            if not self._ready.done():
                self._ready.set_exception(Gone(self._sentence(why)))
            else:
                log.info("mcp.session_broke", extra={"server": self.name, "why": why[:200]})
            if not isinstance(error, Exception):
                raise
        finally:
            self._closing.set()
            self._client = None

    async def _until_it_ends(self) -> None:
        while not self._closing.is_set():
            with anyio.move_on_after(min(_TICK_S, self._idle_s + _TURN_S)):
                await self._woken.wait()
            if self.way.over() or time.monotonic() - self.idle_since_s >= self._idle_s:
                return

    async def _wake(self) -> None:
        self._woken.set()

    async def _list(self) -> None:
        assert self._client is not None
        found = reading.offered(self._client)
        cursor = None
        for _ in range(_PAGES_MAX):
            page = await self._client.list_tools(cursor=cursor)
            found |= {tool.name: tool for tool in page.tools}
            cursor = page.next_cursor
            if not cursor or len(found) >= TOOLS_MAX:
                break
        self.tools, self._listed_s = found, time.monotonic()

    async def _call(self, tool: str, arguments: dict[str, Any], progress: Any) -> mcp_types.CallToolResult:
        if self._client is None:
            raise Gone(self._sentence("the session has ended"))
        known = self.tools.get(tool)
        if known is not None and reading.ours(known):
            return await reading.call(self._client, known, arguments)
        return await self._client.call_tool(tool, arguments, progress_callback=progress)

    async def _logged(self, params: mcp_types.LoggingMessageNotificationParams) -> None:
        self._say(f"[{params.level}] {params.data}"[:2000] + "\n")

    async def _heard(self, message: Any) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._listed_s = -math.inf


class _Listening:
    """A call that runs: what the server says meanwhile comes to it."""

    def __init__(self, session: Session, log: Log) -> None:
        self._session = session
        self._log = log
        self._queue: SimpleQueue[str] = SimpleQueue()

    def put(self, text: str) -> None:
        if self._queue.qsize() < _NOTES_MAX:
            self._queue.put(text)

    def pass_on(self) -> None:
        heard = []
        while True:
            try:
                heard.append(self._queue.get_nowait())
            except Empty:
                break
        if heard:
            self._log("".join(heard))

    def __enter__(self) -> "_Listening":
        with self._session._lock:
            self._session._calls.append(self._queue)
        return self

    def __exit__(self, *_: object) -> None:
        with self._session._lock:
            self._session._calls.remove(self._queue)
            self._session._used_s = time.monotonic()
        self.pass_on()


def _waited(
    future: "Future[Any]", timeout_s: float, cancelled: Callable[[], bool], pass_on: Callable[[], None], name: str
) -> Any:
    deadline_s = time.monotonic() + timeout_s
    while not wait([future], min(_TURN_S, max(0.0, deadline_s - time.monotonic()))).done:
        pass_on()
        if cancelled():
            future.cancel()
            raise Cancelled("The call was cancelled.", error_code="cancelled")
        if time.monotonic() >= deadline_s:
            future.cancel()
            raise TimeUp(f"The MCP server {name} did not answer within {timeout_s:.0f} s.")
    try:
        return future.result()
    except ToolError:
        raise
    except MCPError as error:
        if error.code == mcp_types.CONNECTION_CLOSED:
            raise Gone(f"The MCP server {name} went away during the call.") from None
        raise ToolFailed(f"The MCP server {name} answered with error {error.code}: {error}"[:2000]) from None
    except Exception as error:
        raise NoAnswer(f"The MCP server {name} gave no usable answer: {_why(error)}") from None


def _why(error: BaseException) -> str:
    """The first cause of a group of errors, for people."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return (str(error).strip() or type(error).__name__)[:600]


def _said(client: Client) -> dict[str, str]:
    info = client.server_info
    return {
        "name": info.name[:200] if info else "",
        "version": str(info.version)[:100] if info else "",
        "protocol": client.protocol_version,
        "instructions": (client.instructions or "")[:4000],
    }


def _share(done: float, total: float | None) -> str:
    return f"{done:g} of {total:g}" if total else f"{done:g}"
