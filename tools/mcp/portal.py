"""The one thread of this process in which all MCP sessions live: an event loop that other threads hand work to."""

import contextlib
import os
import threading
from concurrent.futures import Future

import anyio
from anyio.from_thread import BlockingPortal

_START_S = 10.0
_lock = threading.Lock()
_running: tuple[int, BlockingPortal] | None = None


def portal() -> BlockingPortal:
    """The portal; its thread is started when it is first asked for, in each process anew. It does not outlive the process."""
    global _running
    with _lock:
        if _running is None or _running[0] != os.getpid():
            started: Future[BlockingPortal] = Future()
            threading.Thread(target=anyio.run, args=(_serve, started), name="mcp", daemon=True).start()
            _running = os.getpid(), started.result(_START_S)
        return _running[1]


async def _serve(started: "Future[BlockingPortal]") -> None:
    with contextlib.suppress(anyio.get_cancelled_exc_class()):
        async with BlockingPortal() as made:
            started.set_result(made)
            await made.sleep_until_stopped()
