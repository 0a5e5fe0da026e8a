"""The server as a plain ASGI application: `/v1/models` and `/v1/chat/completions`."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from agents.llm.scripted import MODEL, faults, stream, vectors
from agents.llm.scripted.brain import move
from agents.llm.scripted.scenarios import Rule
from agents.llm.scripted.scene import Ask, Move, Scene, read

BODY_LIMIT_BYTES = 16 * 1024**2
DRIP_EVERY_S = 0.05
SLOW_S = 300.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Aborted(Exception):
    """The connection is dropped in mid-answer, on demand."""


class App:
    """delay_s: how long an answer takes before its first word, so that people can follow; rules: of a scenario, asked
    before what the server knows by itself."""

    def __init__(self, *, delay_s: float = 0.0, rules: Sequence[Rule] = ()) -> None:
        self._delay_s = delay_s
        self._rules = rules
        self._faults = faults.Faults()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        route = (scope["method"], scope["path"].rstrip("/"))
        if route == ("GET", "/v1/models"):
            model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "countersign (scripted, not a model)"}
            await _json(send, 200, {"object": "list", "data": [model]})
        elif route == ("POST", "/v1/chat/completions"):
            await self._complete(receive, send)
        elif route == ("POST", "/v1/embeddings"):
            await self._embed(receive, send)
        else:
            await _error(send, 404, "The scripted server has no such path.")

    async def _complete(self, receive: Receive, send: Send) -> None:
        raw = await _body(receive)
        if raw is None:
            await _error(send, 413, "The request is too large.")
            return
        try:
            body = json.loads(raw)
            if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
                raise ValueError("a chat completion has messages")
            scene = read(body)
            rule = next((one for one in self._rules if one.fits(scene)), None)
            fault = self._faults.of(body, repairing=scene.repairing).name or self._of_rule(rule, raw)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            await _error(send, 400, f"The request cannot be read: {error}")
            return
        if str(body.get("model", "")).partition("+")[0] != MODEL:
            await _error(send, 404, f"There is no model {body.get('model')!r} here, only {MODEL}.")
            return
        await self._answer(body, scene, rule, fault, raw.decode("utf-8", "replace"), receive, send)

    def _of_rule(self, rule: Rule | None, raw: bytes) -> str:
        if rule is None or not rule.fault:
            return ""
        return rule.fault if not rule.once or self._faults.first(f"{rule.number}", raw) else ""

    async def _embed(self, receive: Receive, send: Send) -> None:
        raw = await _body(receive)
        if raw is None:
            await _error(send, 413, "The request is too large.")
            return
        try:
            body = json.loads(raw)
            fault = self._faults.of(body, repairing=False).name
            value = vectors.answer(body)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            await _error(send, 400, f"The request cannot be read: {error}")
            return
        if fault == "slow" and await _wait(asyncio.ensure_future(_gone(receive)), SLOW_S):
            return
        if fault in faults.STATUS:
            status, error_body, headers = faults.STATUS[fault]
            await _json(send, status, {"error": error_body}, headers)
            return
        if fault in faults.BODIES:
            kind, content = faults.BODIES[fault]
            await _whole(send, 200, kind, content)
            return
        await _json(send, 200, value)

    async def _answer(
        self,
        body: dict[str, Any],
        scene: Scene,
        rule: Rule | None,
        fault: str,
        prompt: str,
        receive: Receive,
        send: Send,
    ) -> None:
        gone = asyncio.ensure_future(_gone(receive))
        try:
            delay_s = self._delay_s + (rule.delay_s if rule else 0.0)
            if await _wait(gone, SLOW_S if fault == "slow" else delay_s):
                return
            if fault in faults.STATUS:
                status, error, headers = faults.STATUS[fault]
                await _json(send, status, {"error": error}, headers)
                return
            if fault in faults.BODIES:
                kind, content = faults.BODIES[fault]
                await _whole(send, 200, kind, content)
                return
            chosen = _loop(scene) if fault == "loop" else rule.move(scene) if rule and not rule.silent else move(scene)
            answer = stream.reply(
                chosen,
                model=str(body["model"]),
                created=int(time.time()),
                prompt=prompt,
                fault=fault,
                by_function=bool(scene.functions),
                counted=rule.usage if rule else None,
            )
            if fault == "whole" or not body.get("stream"):
                await _json(send, 200, stream.whole(answer))
                return
            options = body.get("stream_options")
            usage = isinstance(options, dict) and bool(options.get("include_usage"))
            await self._stream(answer, usage, fault, gone, send)
        finally:
            gone.cancel()

    async def _stream(
        self, answer: stream.Reply, usage: bool, fault: str, gone: "asyncio.Future[None]", send: Send
    ) -> None:
        await _start(send, 200, "text/event-stream; charset=utf-8", {"cache-control": "no-store"})
        if fault == "drip":
            # Bytes that never add up to an event: a client that only waits for the next read waits for ever.
            while not await _wait(gone, DRIP_EVERY_S):
                await _more(send, b":")
            return
        pause_s = min(self._delay_s / 40, 0.05)
        for number, event in enumerate(stream.events(answer, usage=usage, fault=fault)):
            await _more(send, event)
            if fault == "abort" and number == 2:
                raise Aborted
            if await _wait(gone, pause_s):
                return
        await send({"type": "http.response.body", "body": b""})


def _loop(scene: Scene) -> Move:
    """The same call for ever, whatever comes of it."""
    return Move(words="Scripted: once more.", asks=(Ask(name="files.list", arguments={}, reason="Scripted."),))


async def _wait(gone: "asyncio.Future[None]", seconds: float) -> bool:
    """Waits; True where the client went away meanwhile."""
    await asyncio.wait({gone}, timeout=seconds)
    return gone.done()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> bytes | None:
    """The request's body, or None where it is too large."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY_LIMIT_BYTES:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


async def _start(send: Send, status: int, kind: str, headers: dict[str, str] | None = None) -> None:
    pairs = {"content-type": kind, "x-countersign-scripted": "1", **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in pairs.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def _more(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _whole(send: Send, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
    await _start(send, status, kind, {**(headers or {}), "content-length": str(len(body))})
    await send({"type": "http.response.body", "body": body})


async def _json(send: Send, status: int, value: dict[str, Any], headers: dict[str, str] | None = None) -> None:
    await _whole(send, status, "application/json", json.dumps(value).encode(), headers)


async def _error(send: Send, status: int, message: str) -> None:
    await _json(send, status, {"error": {"message": message, "type": "invalid_request_error", "code": None}})
