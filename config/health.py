"""`GET /healthz`: may this server be sent requests?"""

import logging
from collections.abc import Callable

import redis
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)
TIMEOUT_S = 2.0


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """200 `{"status": "ok", "database": "ok", "redis": "ok"}`, or 503 with what failed; the reason stands in the log."""
    parts = {name: "ok" if _works(name, check) else "failed" for name, check in CHECKS.items()}
    whole = all(state == "ok" for state in parts.values())
    return JsonResponse({"status": "ok" if whole else "failed", **parts}, status=200 if whole else 503)


def check_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def check_redis() -> None:
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        client.ping()
    finally:
        client.close()


CHECKS: dict[str, Callable[[], None]] = {"database": check_database, "redis": check_redis}


def _works(name: str, check: Callable[[], None]) -> bool:
    try:
        check()
    except Exception as error:  # whatever the reason: it is not healthy
        log.warning("health.failed", extra={"part": name, "error": f"{type(error).__name__}: {error}"[:300]})
        return False
    return True
