"""The witness over HTTP: `POST /add-checkpoint` (C2SP tlog-witness), and what it saw last, for auditors.

POST /add-checkpoint                       a cosignature, or why not
GET  /checkpoint/<SHA-256 of the origin>   the last checkpoint of that log with the cosignature
GET  /vkey                                 the witness's public key
"""

import hashlib
import logging
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from audit.errors import AuditError
from audit.witness.keeper import BODY_MAX_BYTES, Answer, Keeper

TIMEOUT_S = 20

log = logging.getLogger("audit.witness")


class WitnessServer(ThreadingHTTPServer):
    """Answers for one keeper. address: (host, port), port 0 for any that is free."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], keeper: Keeper) -> None:
        super().__init__(address, _Handler)
        self.keeper = keeper

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"


class _Handler(BaseHTTPRequestHandler):
    server: WitnessServer
    timeout = TIMEOUT_S
    protocol_version = "HTTP/1.1"
    server_version = "audit-witness"
    sys_version = ""

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/add-checkpoint":
            return self._answer(Answer(404, "There is POST /add-checkpoint.\n"))
        if not length.isdecimal() or int(length[:9]) > BODY_MAX_BYTES:
            self.close_connection = True
            return self._answer(
                Answer(413 if length.isdecimal() else 411, "The request is too long, or says not how long.\n")
            )
        try:
            answer = self.server.keeper.add_checkpoint(self.rfile.read(int(length)), int(time.time()))
        except (AuditError, OSError) as error:
            log.error("witness.stuck", extra={"why": str(error)})
            answer = Answer(500, "The witness cannot keep its state.\n")
        log.info("witness.answered", extra={"status": answer.status})
        return self._answer(answer)

    def do_GET(self) -> None:
        keeper = self.server.keeper
        if self.path == "/vkey":
            return self._answer(Answer(200, f"{keeper.key.verifier.vkey}\n"))
        for origin in keeper.logs:
            if self.path == f"/checkpoint/{hashlib.sha256(origin.encode()).hexdigest()}":
                try:
                    note = keeper.seen(origin).note
                except AuditError:
                    return self._answer(Answer(500, "The witness cannot read its state.\n"))
                return self._answer(Answer(200, note) if note else Answer(404, "Nothing was seen of this log yet.\n"))
        return self._answer(Answer(404, "There is nothing here.\n"))

    def _answer(self, answer: Answer) -> None:
        body = answer.body.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the server logs on its own terms."""
