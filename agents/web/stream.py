"""`GET /jobs/<uuid>/stream?after=<seq>`: the job's feed as server-sent events.

Rows are the truth: the stream reads what stands behind the cursor, and Redis only wakes it. Without Redis it asks the
database every two seconds. Streams hold no database connection: the few threads of `READERS` read for all of them.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import redis.asyncio
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.views.decorators.http import require_GET
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from agents import feed
from agents.models import Job, Step
from agents.selectors import visible_jobs
from agents.web.loglines import Line, line
from agents.web.words import digits

READERS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="feed-reader")
BATCH = 500
HEARTBEAT_S = 15.0
POLL_S = 2.0  # without Redis
POLL_WOKEN_S = 5.0  # with Redis: what a lost wake-up costs
LIFE_S = 300.0  # then the page connects again, and is judged again
STREAMS_MAX = 500  # a process; beyond, pages poll
STREAMS_OF_ONE = 40  # of these, one user's

_open_streams: Counter[int] = Counter()  # by user


@require_GET
async def stream(request: HttpRequest, job_id: UUID) -> HttpResponseBase:
    """Events: `line` (a `Line` as JSON, id = seq) for each entry after `after`, then `end` when the job is done and
    everything was sent; `here` after 15 s of silence. `busy` and `again` ask the page to poll, or to connect again. 401, 404 and 400 where the
    reader is not signed in, may not see the job, or gave no number."""
    after = _cursor(request)
    if after is None:
        return HttpResponse("`after` must be a number.", status=400, content_type="text/plain")
    user = await request.auser()
    pk = user.pk if user.is_authenticated else None
    # what the middleware and auser() opened in this request's own thread would stay open as long as the stream
    await sync_to_async(connections.close_all)()
    if pk is None:
        return HttpResponse("Sign in first.", status=401, content_type="text/plain")
    if not await reading(_may_see, pk, job_id):
        return HttpResponse("There is no such job.", status=404, content_type="text/plain")
    response = StreamingHttpResponse(events(job_id, pk, after), content_type="text/event-stream")
    response["Cache-Control"] = "no-store, no-transform"
    response["X-Accel-Buffering"] = "no"
    return response


def _cursor(request: HttpRequest) -> int | None:
    return digits(request.GET.get("after") or request.headers.get("Last-Event-ID") or "0")


@dataclass(frozen=True, slots=True)
class Page:
    """What a read found: lines behind the cursor, and whether nothing more will come after them."""

    lines: list[Line]
    last: bool


async def events(job_id: UUID, user_pk: int, after: int) -> AsyncIterator[bytes]:
    """The body of the stream."""
    if _open_streams.total() >= STREAMS_MAX or _open_streams[user_pk] >= STREAMS_OF_ONE:
        yield event("busy")
        return
    _open_streams[user_pk] += 1
    waker = Waker(job_id)
    names: dict[UUID, tuple[str, str]] = {}
    try:
        yield b"retry: 2000\n\n"
        began = said = judged = time.monotonic()
        await waker.open()  # before the first read: what comes after it wakes us
        while True:
            if time.monotonic() - judged >= HEARTBEAT_S:  # also where lines never cease
                if not await reading(_may_see, user_pk, job_id):
                    return
                judged = time.monotonic()
            page = await reading(_read, job_id, after, names)
            if page.lines:
                after = page.lines[-1].seq
                said = time.monotonic()
                yield b"".join(event("line", one.as_json(), id=one.seq) for one in page.lines)
            if page.last:
                yield event("end")
                return
            if len(page.lines) == BATCH:
                continue
            if time.monotonic() - began > LIFE_S:
                yield event("again")
                return
            if time.monotonic() - said >= HEARTBEAT_S:
                said = time.monotonic()
                yield event("here")
            await waker.wait()
    finally:
        _open_streams[user_pk] -= 1
        if not _open_streams[user_pk]:
            del _open_streams[user_pk]
        await waker.close()


def event(name: str, data: Any = None, *, id: int | None = None) -> bytes:
    """One server-sent event. JSON holds no line break, so `data` is one line."""
    head = f"id: {id}\n" if id is not None else ""
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n".encode()


async def reading(function: Any, *arguments: Any) -> Any:
    """What `function` gives, called in one of the readers' threads."""
    return await asyncio.get_running_loop().run_in_executor(READERS, _read_with, function, *arguments)


def _read_with(function: Any, *arguments: Any) -> Any:
    """In a reader's thread: its connection goes back to the web server's pool after each use, since readers wait for
    slow browsers in between, and pages need those connections."""
    try:
        return function(*arguments)
    finally:
        connections.close_all()


def _may_see(user_pk: int, job_id: UUID) -> bool:
    user = User.objects.filter(pk=user_pk, is_active=True).first()
    return user is not None and visible_jobs(user).filter(pk=job_id).exists()


def _read(job_id: UUID, after: int, names: dict[UUID, tuple[str, str]]) -> Page:
    # the job before its entries: what commits in between is read by the next round
    job = Job.objects.only("state", "finished_at", "feed_seq").filter(pk=job_id).first()
    if job is None:
        return Page([], last=True)
    entries = feed.entries(job_id, after=after, limit=BATCH)
    unknown = {entry.step_id for entry in entries if entry.step_id is not None} - names.keys()
    if unknown:
        names.update(step_names(unknown))
    last_seq = entries[-1].seq if entries else after
    return Page([line(entry, names) for entry in entries], last=job.done and last_seq >= job.feed_seq)


def step_names(ids: Any) -> dict[UUID, tuple[str, str]]:
    """(key, tool) of the steps, by id."""
    return {pk: (key, tool) for pk, key, tool in Step.objects.filter(pk__in=ids).values_list("pk", "key", "tool")}


@dataclass(slots=True)
class Waker:
    """Waits for the feed's Redis channel; where Redis is away it sleeps, and tries Redis again now and then."""

    job_id: UUID
    _client: Any = None
    _pubsub: Any = None
    _tried_at: float = field(default=float("-inf"))

    async def open(self) -> None:
        self._tried_at = time.monotonic()
        client = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, retry=Retry(NoBackoff(), 0), socket_timeout=POLL_WOKEN_S + 5, socket_connect_timeout=1
        )
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        self._client, self._pubsub = client, pubsub
        try:
            await pubsub.subscribe(feed.channel(self.job_id))
        except (RedisError, OSError):
            await self.close()

    async def wait(self) -> None:
        """Returns at a message, or when it is time to look."""
        if self._pubsub is None:
            await asyncio.sleep(POLL_S)
            if time.monotonic() - self._tried_at > 5 * POLL_S:
                await self.open()
            return
        try:
            until = time.monotonic() + POLL_WOKEN_S
            while (left := until - time.monotonic()) > 0:
                if await self._pubsub.get_message(timeout=left) is not None:
                    break
            while await self._pubsub.get_message(timeout=0) is not None:
                pass  # one read answers all that has come
        except (RedisError, OSError):
            await self.close()

    async def close(self) -> None:
        pubsub, client = self._pubsub, self._client
        self._pubsub = self._client = None
        for one in (pubsub, client):
            if one is not None:
                try:
                    await one.aclose()
                except (RedisError, OSError):
                    continue
