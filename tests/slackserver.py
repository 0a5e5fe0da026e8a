"""A server that speaks the part of Slack's Web API that we use: it keeps messages, checks what Slack checks of them, and
presses their buttons with the signature that Slack would make.

https://docs.slack.dev/apis/web-api, https://docs.slack.dev/interactivity/handling-user-interaction
"""

import hashlib
import hmac
import http.server
import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode

TOKEN, SECRET, CHANNEL, TEAM = "xoxb-test", "8f742231b10e8888abcd99yyyzzz85a5", "C0APPROVE", "T0TEAM"
READS = {"users.info"}
TEXT_MAX, BLOCKS_MAX, HEADER_MAX, FIELDS_MAX = 3000, 50, 150, 10
_presses = itertools.count(1)  # no two are the same


class SlackServer:
    """messages: what stands, by (channel, ts); said: ephemeral messages; views: opened modals; calls: every call's
    method and arguments; broken: an error that every call answers; people: {account: mail address}."""

    def __init__(self) -> None:
        self.messages: dict[tuple[str, str], dict[str, Any]] = {}
        self.said: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.people: dict[str, str] = {}
        self.broken = ""
        self.url = ""

    def answer(self, method: str, given: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((method, given))
        if self.broken:
            return {"ok": False, "error": self.broken}
        handler = getattr(self, "_" + method.replace(".", "_"), None)
        return handler(given) if handler else {"ok": False, "error": "unknown_method"}

    def only(self) -> dict[str, Any]:
        """The one message that stands."""
        (message,) = self.messages.values()
        return message

    def buttons(self, message: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """By action."""
        found = [one for block in message["blocks"] if block["type"] == "actions" for one in block["elements"]]
        found += [block["accessory"] for block in message["blocks"] if "accessory" in block]
        return {button["action_id"]: button for button in found}

    def press(self, message: dict[str, Any], action: str, *, account: str, **changes: Any) -> dict[str, Any]:
        """The payload of a press."""
        button = self.buttons(message)[action]
        return {
            "type": "block_actions",
            "team": {"id": TEAM, "domain": "test"},
            "user": {"id": account, "username": account.lower(), "team_id": TEAM},
            "channel": {"id": CHANNEL, "name": "approvals"},
            "trigger_id": f"{next(_presses)}.2.trigger",
            "actions": [{key: button[key] for key in ("action_id", "value") if key in button}],
            **changes,
        }

    def submit(self, view: dict[str, Any], reason: str, *, account: str) -> dict[str, Any]:
        """The payload of a modal that is sent."""
        return {
            "type": "view_submission",
            "team": {"id": TEAM, "domain": "test"},
            "user": {"id": account, "username": account.lower(), "team_id": TEAM},
            "view": {**view, "id": "V1", "state": {"values": {"reason": {"reason": {"value": reason}}}}},
        }

    def _chat_postMessage(self, given: dict[str, Any]) -> dict[str, Any]:
        if wrong := _check(given):
            return {"ok": False, "error": wrong}
        stamp = f"{1_700_000_000 + len(self.messages)}.000100"
        self.messages[given["channel"], stamp] = given
        return {"ok": True, "channel": given["channel"], "ts": stamp}

    def _chat_update(self, given: dict[str, Any]) -> dict[str, Any]:
        key = (given["channel"], given["ts"])
        if key not in self.messages:
            return {"ok": False, "error": "message_not_found"}
        if wrong := _check(given):
            return {"ok": False, "error": wrong}
        self.messages[key] = given
        return {"ok": True, "channel": key[0], "ts": key[1]}

    def _chat_postEphemeral(self, given: dict[str, Any]) -> dict[str, Any]:
        self.said.append(given)
        return {"ok": True, "message_ts": "1.1"}

    def _views_open(self, given: dict[str, Any]) -> dict[str, Any]:
        if not given.get("trigger_id"):
            return {"ok": False, "error": "invalid_trigger"}
        self.views.append(given["view"])
        return {"ok": True, "view": given["view"]}

    def _users_info(self, given: dict[str, Any]) -> dict[str, Any]:
        profile = {"email": self.people[given["user"]]} if given["user"] in self.people else {}
        return {"ok": True, "user": {"id": given["user"], "profile": profile}}

    def _auth_test(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, "team": "Test", "user": "countersign", "team_id": TEAM}


def signed(payload: dict[str, Any], *, at: float | None = None, secret: str = SECRET) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request as Slack makes it."""
    return signed_text(json.dumps(payload), at=at, secret=secret)


def signed_text(payload: str, *, at: float | None = None, secret: str = SECRET) -> tuple[bytes, dict[str, str]]:
    """The same for a payload that need not be JSON."""
    body = urlencode({"payload": payload}).encode()
    stamp = str(int(time.time() if at is None else at))
    made = hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return body, {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={made}"}


@contextmanager
def running() -> Iterator[SlackServer]:
    slack = SlackServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"] or 0))
            form = not self.headers.get_content_type().endswith("json")
            given = dict(parse_qsl(raw.decode())) if form else json.loads(raw or b"{}")
            method = self.path.removeprefix("/api/")
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                answer: dict[str, Any] = {"ok": False, "error": "invalid_auth"}
            elif not form and method in READS:  # its reading methods take no JSON
                answer = {"ok": False, "error": "invalid_arguments"}
            else:
                answer = slack.answer(method, given)
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    slack.url = f"http://127.0.0.1:{server.server_port}/api/"
    try:
        yield slack
    finally:
        server.shutdown()
        thread.join(60)
        server.server_close()


def _check(message: dict[str, Any]) -> str:
    """What Slack refuses of a message, "" where it takes it."""
    blocks = message.get("blocks", [])
    if not message.get("text") or len(blocks) > BLOCKS_MAX:
        return "invalid_blocks" if blocks else "no_text"
    texts = [block["text"]["text"] for block in blocks if block["type"] == "header"]
    if any(len(text) > HEADER_MAX for text in texts):
        return "invalid_blocks"
    if any(len(block.get("fields", [])) > FIELDS_MAX for block in blocks):
        return "invalid_blocks"
    actions = [one["action_id"] for block in blocks if block["type"] == "actions" for one in block["elements"]]
    if len(actions) != len(set(actions)):
        return "invalid_blocks"
    return "" if all(len(text) <= TEXT_MAX for text in _texts(blocks)) else "msg_too_long"


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "text" and isinstance(value, str):
                yield value
            else:
                yield from _texts(value)
    elif isinstance(part, list):
        for one in part:
            yield from _texts(one)
