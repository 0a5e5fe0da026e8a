"""JSON over https to a forge's API: one connection a request, no redirects, bounded in time and size.

The address is resolved and judged by `tools.egress` (private ones only where EGRESS_EXCEPTIONS names them). A proxy of the
company (HTTPS_PROXY, NO_PROXY) is the host's business, as it is for git, and so are its certificates (SSL_CERT_FILE,
SSL_CERT_DIR, GIT_SSL_CAINFO).
"""

import http.client
import json
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from tools.egress.connect import Allowlist, Connections, connect
from tools.errors import ToolFailed

BODY_MAX = 4 * 1024**2
TIMEOUT_S = 30.0
AGENT = "Countersign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """body: the JSON, None where there is none."""

    status: int
    body: Any


class Api:
    """Requests to one forge. headers: what says who asks, worked out when it is first needed."""

    def __init__(self, headers: Callable[[], Mapping[str, str]], *, record: Connections) -> None:
        self._headers = headers
        self._record = record

    def get(self, url: str, *, login: bool = True, **query: str) -> Answer:
        """Raises ToolFailed: there is no answer (transient)."""
        return self._ask("GET", f"{url}?{urlencode(query)}" if query else url, None, login)

    def post(self, url: str, body: Mapping[str, Any]) -> Answer:
        """Raises ToolFailed: there is no answer (transient); it may have happened."""
        return self._ask("POST", url, body, True)

    def patch(self, url: str, body: Mapping[str, Any]) -> Answer:
        """As `post`."""
        return self._ask("PATCH", url, body, True)

    def put(self, url: str, body: Mapping[str, Any]) -> Answer:
        """As `post`."""
        return self._ask("PUT", url, body, True)

    def _ask(self, method: str, url: str, body: Mapping[str, Any] | None, login: bool) -> Answer:
        parts = urlsplit(url)
        headers = {"User-Agent": AGENT, "Accept": "application/json", "Connection": "close"}
        headers |= self._headers() if login else {}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = _connection(parts.hostname or "", parts.port or 443, self._record)
        try:
            connection.request(method, url.partition(parts.netloc)[2], body=content, headers=headers)
            answer = connection.getresponse()
            data = answer.read(BODY_MAX + 1)
        except (OSError, http.client.HTTPException) as error:
            raise ToolFailed(
                f"{parts.hostname} gave no answer: {error or type(error).__name__}.", transient=True
            ) from None
        finally:
            connection.close()
        if len(data) > BODY_MAX:
            raise ToolFailed(f"{parts.hostname} answered with more than {BODY_MAX} bytes.")
        return Answer(status=answer.status, body=_json(data))


def _json(data: bytes) -> Any:
    try:
        return json.loads(data) if data else None
    except ValueError:
        return None


def _connection(host: str, port: int, record: Connections) -> http.client.HTTPSConnection:
    """A connection with its socket open and its certificate checked."""
    context = _context()
    made = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    try:
        raw = _through_proxy(host, port) or connect(
            host, port, allow=Allowlist.parse([f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]), record=record,
            timeout_s=TIMEOUT_S,
        )  # fmt: skip
        raw.settimeout(TIMEOUT_S)
        made.sock = context.wrap_socket(raw, server_hostname=host)
    except (OSError, http.client.HTTPException) as error:
        raise ToolFailed(f"{host} cannot be reached: {error}.", transient=True) from None
    return made


def _through_proxy(host: str, port: int) -> socket.socket | None:
    """A tunnel by the company's proxy; None where there is none for this host."""
    proxy = _given("HTTPS_PROXY", "https_proxy")
    if not proxy or _direct(host):
        return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    tunnel = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=TIMEOUT_S)
    tunnel.set_tunnel(host, port)
    tunnel.connect()
    assert tunnel.sock is not None
    sock: socket.socket = tunnel.sock
    return sock


def _given(*names: str) -> str:
    """The first of the host's own variables that is set, as git heeds them."""
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _direct(host: str) -> bool:
    """Whether NO_PROXY names the host, or a domain above it."""
    listed = _given("NO_PROXY", "no_proxy").split(",")
    names = [name.strip().lower().lstrip("*").lstrip(".") for name in listed]
    return "*" in (name.strip() for name in listed) or any(
        name and (host == name or host.endswith(f".{name}")) for name in names
    )


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()  # heeds SSL_CERT_FILE and SSL_CERT_DIR
    extra = _given("GIT_SSL_CAINFO")
    if extra:
        context.load_verify_locations(extra)
    return context
