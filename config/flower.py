"""Flower under /flower/, for staff only and read-only.

Flower listens on loopback behind a password of its own, which only this proxy knows. Only GET and HEAD pass, and of
headers only those that are named here: no cookie or login of ours reaches Flower, and it sets none with us.
"""

import base64
import hashlib
import logging
import re
from collections.abc import Mapping

import httpx2
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

log = logging.getLogger(__name__)

REQUEST_HEADERS = ("Accept", "Accept-Language", "If-Modified-Since", "If-None-Match", "X-Requested-With")
RESPONSE_HEADERS = ("Content-Type", "Cache-Control", "ETag", "Last-Modified", "Expires", "Vary")
TIMEOUT_S = 10.0
MAX_BYTES = 10 * 1024 * 1024
# Flower's only inline script, on its page of workers: this text and no other is let through the CSP, by its hash.
_INLINE_SCRIPT = re.compile(rb'<script type="text/javascript">(\s*var autorefresh = \w{1,10};\s*)</script>')


@require_safe
async def proxy(request: HttpRequest, path: str) -> HttpResponseBase:
    """Hands the request on to `settings.FLOWER_URL`; a page that says so when Flower does not answer (503)."""
    user = await request.auser()
    if not user.is_authenticated:
        return redirect_to_login(request.get_full_path())
    if not user.is_staff:
        raise PermissionDenied("Flower is for staff.")
    if not settings.FLOWER_URL:
        return await _unavailable(request, "Flower is not configured on this server: FLOWER_URL is empty.")
    try:
        answer, body = await _fetch(request)
    except (httpx2.HTTPError, _TooBig) as error:
        log.warning("flower.unavailable", extra={"error": f"{type(error).__name__}: {error}"[:300]})
        return await _unavailable(request, "Flower does not answer just now. It may still be starting.")
    return _relaxed(_answer(answer, body), body)


class _TooBig(Exception):
    """Flower's answer is longer than MAX_BYTES."""


async def _fetch(request: HttpRequest) -> tuple[httpx2.Response, bytes]:
    headers = {name: request.headers[name] for name in REQUEST_HEADERS if name in request.headers}
    headers |= {"Accept-Encoding": "identity", "Authorization": _authorization(settings.FLOWER_BASIC_AUTH)}
    # always GET: Flower knows no HEAD, and Django drops the body of the answer to one
    url = settings.FLOWER_URL.rstrip("/") + request.get_full_path()
    # a connection is made for each request: the loop differs between requests where Django adapts to synchronous code
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=TIMEOUT_S, verify=url.startswith("https:")) as client,
        client.stream("GET", url, headers=headers) as answer,
    ):
        body = bytearray()
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > MAX_BYTES:
                raise _TooBig
        return answer, bytes(body)


def _authorization(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode("ascii")


def _answer(answer: httpx2.Response, body: bytes) -> HttpResponse:
    if answer.status_code == 401:  # our configuration is wrong, not the reader's login
        log.error("flower.refused", extra={"status": 401})
        return HttpResponse("Flower refused this server's password: check FLOWER_BASIC_AUTH.", status=502)
    response = HttpResponse(body, status=answer.status_code)
    del response["Content-Type"]
    _copy(answer.headers, response)
    return response


def _copy(headers: Mapping[str, str], response: HttpResponse) -> None:
    for name in RESPONSE_HEADERS:
        if name in headers:
            response[name] = headers[name]
    location = headers.get("Location", "")
    if location.startswith("/flower/"):
        response["Location"] = location


def _relaxed(response: HttpResponse, body: bytes) -> HttpResponse:
    """The strict CSP plus what Flower's pages need: styles set by its table script, and its one inline script."""
    change = {"style-src": ["'unsafe-inline'"]}
    found = _INLINE_SCRIPT.search(body)
    if found:
        digest = base64.b64encode(hashlib.sha256(found[1]).digest()).decode("ascii")
        change["script-src"] = [f"'sha256-{digest}'"]
    setattr(response, "_csp_update", change)  # noqa: B010  what csp_update sets; that decorator knows no async view
    return response


async def _unavailable(request: HttpRequest, why: str) -> HttpResponse:
    # in a thread: the page's frame asks the database who is signed in
    return await sync_to_async(render)(request, "config/flower_unavailable.html", {"why": why}, status=503)
