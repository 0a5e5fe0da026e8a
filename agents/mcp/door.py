"""Before `/mcp`: the host and the origin of a request, its token, and how often that token asks."""

import json
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connections
from django.http.request import split_domain_port, validate_host
from django.utils import timezone
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from agents import tokens
from agents.errors import TokenRefused
from agents.mcp.caller import as_access, call
from agents.models import ApiToken
from approvals import rates

PATH = "/mcp"
METADATA = "/.well-known/oauth-protected-resource"
METADATA_PATHS = frozenset({METADATA, METADATA + PATH})
WINDOW_S = 60


def metadata() -> dict[str, Any]:
    """RFC 9728. There is no authorization server to name: tokens are made by people, on this server."""
    return {
        "resource": settings.PUBLIC_URL + PATH,
        "resource_name": settings.SITE_NAME,
        "resource_documentation": settings.PUBLIC_URL + "/api/docs",
        "bearer_methods_supported": ["header"],
        "scopes_supported": list(ApiToken.Scope.values),
    }


class Door:
    """Lets requests with a good token through to `app`, which finds the token's `AuthenticatedUser` in the scope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = AuthContextMiddleware(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if not host_allowed(headers.get("host", "")):
            return await _answer(send, 421, {"error": "host_refused"})
        if not origin_allowed(headers.get("origin"), headers.get("host", "")):
            return await _answer(send, 403, {"error": "origin_refused"})
        if settings.SECURE_SSL_REDIRECT and not _secure(scope, headers):
            return await _answer(send, 403, {"error": "https_only"})
        given = headers.get("authorization", "")
        client = scope.get("client")
        found = await call(_checked, given, client[0] if client else "")
        if isinstance(found, str):
            error = "invalid_token" if given else ""
            return await _answer(send, 401, {"error": error or "token_missing", "error_description": found}, error)
        token, left_s = found
        if left_s:
            body = {"error": "throttled", "error_description": "Too many requests with this token."}
            return await _answer(send, 429, body, more=[(b"retry-after", str(left_s).encode())])
        # RFC 9110, 5.5: space around a value is no part of it, and HTTP parsers may leave it there
        clean = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        await self._app({**scope, "headers": clean, "user": AuthenticatedUser(as_access(token))}, receive, send)


def host_allowed(host: str) -> bool:
    """Is this one of the server's names? A page of a stranger's that resolves its own name to us has another."""
    domain, _port = split_domain_port(host)
    allowed = settings.ALLOWED_HOSTS or [".localhost", "127.0.0.1", "[::1]"]
    return bool(domain) and validate_host(domain, [*allowed, urlsplit(settings.PUBLIC_URL).hostname or ""])


def origin_allowed(origin: str | None, host: str) -> bool:
    """Browsers send an origin: that of our own pages is good, and of those that settings trust."""
    if origin is None:
        return True
    trusted = {settings.PUBLIC_URL, f"http://{host}", f"https://{host}", *settings.CSRF_TRUSTED_ORIGINS}
    return origin.rstrip("/").lower() in {one.rstrip("/").lower() for one in trusted}


def _secure(scope: Scope, headers: Headers) -> bool:
    """By TLS, or by the word of the proxy that ends it."""
    if settings.SECURE_PROXY_SSL_HEADER is None:
        return bool(scope.get("scheme") == "https")
    name, value = settings.SECURE_PROXY_SSL_HEADER
    said = headers.get(name.removeprefix("HTTP_").replace("_", "-"))
    return said is not None and said.partition(",")[0].strip() == value


def _checked(header: str, address: str) -> tuple[ApiToken, int] | str:
    """(the token, 0 or the seconds until it may ask again), or what is wrong."""
    scheme, _, secret = header.strip().partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        return "Send a token: Authorization: Bearer cs_…"
    now = timezone.now()
    try:
        token = tokens.good(secret, now=now)
    except TokenRefused as error:
        return error.message
    tokens.touch(token, now=now, address=address)
    connections.close_all()
    most = settings.API_RATES["token"]
    hits = rates.hit(f"api:token:{token.pk}", window_s=WINDOW_S) if most else None
    return token, hits.left_s if hits is not None and hits.count > most else 0


async def _answer(
    send: Send,
    status: int,
    body: dict[str, Any],
    error: str | None = None,
    more: list[tuple[bytes, bytes]] | None = None,
) -> None:
    """`error` (RFC 6750): the answer asks for a token, and says where its metadata stand."""
    content = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode()), *(more or ())]
    if error is not None:
        where = f'resource_metadata="{settings.PUBLIC_URL}{METADATA}{PATH}"'
        headers.append((b"www-authenticate", ("Bearer " + (f'error="{error}", ' if error else "") + where).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def answer_metadata(scope: Scope, receive: Receive, send: Send) -> None:
    if not host_allowed(Headers(scope=scope).get("host", "")):
        return await _answer(send, 421, {"error": "host_refused"})
    if scope["method"] not in {"GET", "HEAD"}:
        return await _answer(send, 405, {"error": "method_not_allowed"})
    await _answer(send, 200, metadata(), more=[(b"access-control-allow-origin", b"*")])
