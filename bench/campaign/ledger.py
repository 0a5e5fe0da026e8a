"""The ledger outside the system: it counts effects, each written to disk before it is acknowledged.

A line of JSON a request, a line of JSON an answer: `{"op": "write", "step", "kind", "pid"}` -> `{"count"}`, how often
this step has written by now; `{"op": "ask", "step"}` -> `{"count"}`.
"""

import json
import os
import socket
import socketserver
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect as it reached the ledger. at: seconds since the epoch."""

    step: str
    kind: str
    pid: int
    at: float


class Ledger:
    """Serves on 127.0.0.1 from a thread of the campaign's process, which no fault touches."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()
        self._effects: dict[str, list[Effect]] = defaultdict(list)
        ledger = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with suppress(ConnectionError):  # whoever asked was killed
                    for line in self.rfile:
                        self.wfile.write(json.dumps({"count": ledger.answer(json.loads(line))}).encode() + b"\n")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="ledger", daemon=True).start()

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def answer(self, request: dict[str, Any]) -> int:
        step = str(request["step"])
        with self._lock:
            if request["op"] == "write":
                effect = Effect(step, str(request["kind"]), int(request["pid"]), time.time())
                self._file.write(json.dumps({**request, "at": effect.at}).encode() + b"\n")
                os.fsync(self._file.fileno())
                self._effects[step].append(effect)
            return len(self._effects[step])

    def of(self, step: str) -> list[Effect]:
        with self._lock:
            return list(self._effects.get(step, ()))

    def every(self) -> dict[str, list[Effect]]:
        with self._lock:
            return {step: list(found) for step, found in self._effects.items() if found}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._file.close()


def ask(address: str, **request: Any) -> int:
    """One request. Raises OSError, ValueError where the ledger does not answer."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as answers:
            return int(json.loads(answers.readline())["count"])
