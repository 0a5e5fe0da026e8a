"""What `subscriptions/listen` streams tell: a job, or its log, has changed. Redis carries it to every web process."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import anyio
import redis.asyncio
from django.conf import settings
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver.exceptions import ToolError as Refusal
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated, ServerEvent
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from agents import feed
from agents.mcp import resources
from agents.mcp.caller import Caller, Scope, call, caller
from agents.selectors import visible_jobs

log = logging.getLogger(__name__)

TOGETHER_S = 0.25  # what a job's feed gets within it is told once
AT_ONCE = 1000  # messages
AGAIN_S = 5.0  # without Redis
MOST_ADDRESSES = 200
JUDGED_AGAIN_S = 30.0


class Updates(InMemorySubscriptionBus):
    """The feeds of jobs as events. Reads Redis only while somebody listens."""

    def __init__(self) -> None:
        super().__init__()
        self._open = 0
        self._reader: asyncio.Task[None] | None = None

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        ends = super().subscribe(listener)
        self._open += 1
        if self._reader is None or self._reader.done():
            self._reader = asyncio.get_running_loop().create_task(self._read())
        ended = False

        def unsubscribe() -> None:
            nonlocal ended
            ends()
            if ended:
                return
            ended = True
            self._open -= 1
            if not self._open and self._reader is not None:
                self._reader.cancel()
                self._reader = None

        return unsubscribe

    async def _read(self) -> None:
        while True:
            try:
                await self._follow()
            except (RedisError, OSError) as error:
                log.warning("mcp.updates_away", extra={"error": type(error).__name__})
                await asyncio.sleep(AGAIN_S)

    async def _follow(self) -> None:
        client = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, retry=Retry(NoBackoff(), 0), socket_timeout=30, socket_connect_timeout=1
        )
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        try:
            await pubsub.psubscribe(feed.channel("*"))
            while True:
                message = await pubsub.get_message(timeout=10)
                changed = _jobs(message)
                if changed:
                    await asyncio.sleep(TOGETHER_S)
                for _ in range(AT_ONCE):
                    message = await pubsub.get_message(timeout=0)
                    if message is None:
                        break
                    changed |= _jobs(message)
                for job_id in changed:
                    for uri in (resources.of_job(job_id), resources.of_job(job_id) + "/log"):
                        await self.publish(ResourceUpdated(uri=uri))
        finally:
            for one in (pubsub, client):
                with contextlib.suppress(RedisError, OSError):
                    await one.aclose()


async def only_visible(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """A middleware: of the addresses to listen to, those of jobs that the caller may not see are dropped, and a stream
    ends once the caller's token is no longer good or one of its jobs is no longer theirs to see.

    Raises:
        MCPError: it has ended so.
    """
    if ctx.method != "subscriptions/listen" or ctx.params is None:
        return await call_next(ctx)
    who, allowed = caller(), list[str]()
    wanted = ctx.params.get("notifications")
    uris = wanted.get("resourceSubscriptions") if isinstance(wanted, dict) else None
    if isinstance(wanted, dict) and isinstance(uris, list):
        allowed = await call(_visible, who, [uri for uri in uris if isinstance(uri, str)][:MOST_ADDRESSES])
        ctx = replace(ctx, params={**ctx.params, "notifications": {**wanted, "resourceSubscriptions": allowed}})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_until_lost, who, allowed, tasks.cancel_scope)
        result = await call_next(ctx)
        tasks.cancel_scope.cancel()
        return result
    raise MCPError(code=INVALID_REQUEST, message="What you listened to is no longer yours to see.")


async def _until_lost(who: Caller, uris: list[str], stream: anyio.CancelScope) -> None:
    while True:
        await anyio.sleep(JUDGED_AGAIN_S)
        try:
            if await call(_visible, who, uris) == uris:
                continue
        except Refusal:
            pass
        return stream.cancel()


def _visible(who: Caller, uris: list[str]) -> list[str]:
    """Raises Refusal: the token is no longer good."""
    user = who.user()
    if Scope.JOBS_READ not in who.scopes:
        return []
    of = {uri: _job_of(uri) for uri in uris}
    ids = {one for one in of.values() if one is not None}
    seen = set(visible_jobs(user).filter(pk__in=ids).values_list("pk", flat=True)) if ids else set()
    return [uri for uri, job_id in of.items() if job_id in seen or not uri.startswith(resources.LATEST)]


def _job_of(uri: str) -> UUID | None:
    if not uri.startswith(resources.LATEST + "/"):
        return None
    try:
        return UUID(uri.removeprefix(resources.LATEST + "/").removesuffix("/log"))
    except ValueError:
        return None


def _jobs(message: Any) -> set[str]:
    """The job that a message of a feed's channel is about."""
    if not message:
        return set()
    channel = message.get("channel")
    name = channel.decode() if isinstance(channel, bytes) else str(channel)
    return {name.removeprefix(feed.channel(""))}
