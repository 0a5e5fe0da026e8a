"""Waiting for a job without a thread or a database connection: rows are the truth, Redis wakes the reader."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import anyio
from mcp.server.mcpserver.exceptions import ToolError as Refusal

from agents.mcp import shapes
from agents.mcp.caller import Caller, call
from agents.selectors import visible_job
from agents.states import JobState
from agents.web.stream import Waker

LONGEST_S = 600
WAITS_MAX = 500  # a process
WAITS_OF_ONE = 40  # of these, one user's

Report = Callable[[float, str], Awaitable[None]]  # a number that grows, and a line of words

_waits: Counter[int] = Counter()  # by user


async def settled(
    job_id: UUID, who: Caller, *, timeout_s: float, until_done: bool, report: Report | None = None
) -> bool:
    """Returns when the job has ended, or waits for people (unless `until_done`), or the time is up: False.

    Raises:
        Refusal: the caller may not see it, or not any more; or too many wait.
    """
    deadline = time.monotonic() + min(timeout_s, LONGEST_S)
    said = -1
    with _counted(who.user_id):
        waker = Waker(job_id)
        await waker.open()  # before the first look: what comes after it wakes us
        try:
            while True:
                done, waits, seq, words = await call(_look, job_id, who)
                if report is not None and seq > said:
                    said = seq
                    await report(float(seq), words)
                if done or (waits and not until_done):
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                with anyio.move_on_after(left):
                    await waker.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await waker.close()


def _look(job_id: UUID, who: Caller) -> tuple[bool, bool, int, str]:
    job = visible_job(who.user(), job_id)
    return job.done, job.state == JobState.WAITING, job.feed_seq, shapes.progress(job)


@contextmanager
def _counted(user_id: int) -> Iterator[None]:
    if _waits.total() >= WAITS_MAX or _waits[user_id] >= WAITS_OF_ONE:
        raise Refusal("Too many calls wait at this server now: ask again with get_job. (busy)")
    _waits[user_id] += 1
    try:
        yield
    finally:
        _waits[user_id] -= 1
        if not _waits[user_id]:
            del _waits[user_id]
