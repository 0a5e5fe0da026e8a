"""The campaign's people reach the system as anybody does: by HTTP with a token, again until they are answered."""

import http.client
import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

AGAIN_S = 0.2


class GaveUp(Exception):
    """Nobody answered in time; the message says what the last try gave."""


@dataclass(frozen=True, slots=True)
class Api:
    """port: of the web process on 127.0.0.1. `stop` ends every waiting."""

    port: int
    token: str
    stop: threading.Event

    def post(
        self, path: str, body: dict[str, Any] | None = None, *, key: str = "", timeout_s: float = 120
    ) -> tuple[int, Any]:
        """(status, JSON). Tries again where nobody answers, on 429, and on a server's error.

        Raises:
            GaveUp
        """
        deadline, last = time.monotonic() + timeout_s, "nothing"
        while time.monotonic() < deadline and not self.stop.is_set():
            with suppress(OSError, http.client.HTTPException, ValueError):
                status, answer, wait_s = self._once(path, body, key)
                if status != 429 and status < 500:
                    return status, answer
                last = f"{status} {json.dumps(answer)[:300]}"
                time.sleep(min(wait_s, 2.0))
            time.sleep(AGAIN_S)
        raise GaveUp(f"POST {path}: {last}")

    def _once(self, path: str, body: dict[str, Any] | None, key: str) -> tuple[int, Any, float]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        try:
            data = b"" if body is None else json.dumps(body).encode()
            connection.request("POST", f"/api/v1{path}", body=data, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None, float(answer.headers.get("Retry-After") or 0)
        finally:
            connection.close()
