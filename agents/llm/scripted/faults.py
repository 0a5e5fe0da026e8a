"""Faults on demand, named behind the model: `scripted-demo+cut`, or `scripted-demo+cut-once` for the first time only.

A fault of the transport with `-once` happens to the first of several equal requests. A fault of the answer (`badjson`,
`unknowntool`, `badarguments`, `plain`, `mixed`) with `-once` is mended when the conversation complains about it.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

# Status, error body and headers of the plain refusals.
STATUS: dict[str, tuple[int, dict[str, Any], dict[str, str]]] = {
    "status500": (500, {"message": "scripted fault", "type": "server_error"}, {}),
    "status503": (503, {"message": "scripted overload", "type": "server_error"}, {"retry-after": "3"}),
    "ratelimit": (429, {"message": "scripted rate limit", "code": "rate_limit_exceeded"}, {"retry-after": "2"}),
    "quota": (429, {"message": "scripted quota", "code": "insufficient_quota"}, {"retry-after": "2"}),
    "nomoney": (402, {"message": "scripted want of money", "type": "billing"}, {}),
    "auth": (401, {"message": "scripted refusal of the key", "code": "invalid_api_key"}, {}),
    "forbidden": (403, {"message": "scripted refusal of the key's owner"}, {}),
    "nomodel": (404, {"message": "scripted: no such model", "code": "model_not_found"}, {}),
    "badrequest": (400, {"message": "scripted refusal", "type": "invalid_request_error"}, {}),
    "toolong": (400, {"message": "scripted: too long", "code": "context_length_exceeded"}, {}),
    "redirect": (307, {"message": "elsewhere"}, {"location": "http://127.0.0.1:9/v1/chat/completions"}),
}
# Instead of a stream.
BODIES: dict[str, tuple[str, bytes]] = {
    "html": ("text/html; charset=utf-8", b"<!doctype html><title>Welcome</title><p>This is no API."),
    "error200": (
        "application/json",
        b'{"error": {"message": "scripted error with status 200", "type": "server_error"}}',
    ),
    "malformed": ("application/json", b'{"choices": [{"message": '),
    "types": ("application/json", b'{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}'),
    "empty": ("application/json", b""),
    "nochoices": ("application/json", b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 0}}'),
}
# Within the stream: see `agents.llm.scripted.stream`.
STREAM = {"cut", "abort", "drip", "badchunk", "errorchunk", "nofinish", "length", "filter", "huge", "nousage", "index0"}
ANSWER = {"badjson", "unknowntool", "badarguments", "plain", "mixed", "loop"}
OTHER = {"slow", "whole"}
ALL = set(STATUS) | set(BODIES) | STREAM | ANSWER | OTHER


@dataclass(frozen=True, slots=True)
class Fault:
    name: str = ""
    once: bool = False


@dataclass(slots=True)
class Faults:
    """Remembers which requests have had their fault."""

    had: set[str] = field(default_factory=set)

    def of(self, body: dict[str, Any], *, repairing: bool) -> Fault:
        """The fault that this request asks for and is due. Raises ValueError: there is no such fault."""
        _, plus, asked = str(body.get("model", "")).partition("+")
        if not plus:
            return Fault()
        name, dash, rest = asked.partition("-")
        once = dash == "-" and rest == "once"
        if name not in ALL or (dash and not once):
            raise ValueError(f"no fault {asked!r}; there are: {', '.join(sorted(ALL))}, each also with -once")
        if once and name in ANSWER:
            return Fault() if repairing else Fault(name, once)
        if once and not self.first(
            asked, json.dumps(body.get("messages") or body.get("input"), sort_keys=True).encode()
        ):
            return Fault()
        return Fault(name, once)

    def first(self, name: str, request: bytes) -> bool:
        """Is it the first time that this request meets this fault?"""
        key = hashlib.sha256(name.encode() + b"\0" + request).hexdigest()
        if key in self.had:
            return False
        self.had.add(key)
        return True
