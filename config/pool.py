"""The web server's database connections."""

from typing import Any

from django.db import connections

MIN_SIZE = 1
TIMEOUT_S = 10.0
MAX_IDLE_S = 120.0


def share_connections(*, max_size: int) -> None:
    """Lets the requests of this process share at most `max_size` connections; call it before the first query.

    Under ASGI each synchronous view runs in a thread of its own, which would keep a connection of its own: a hundred
    requests would use up PostgreSQL's connections. A request that gets none within TIMEOUT_S fails.
    """
    settings: dict[str, Any] = connections.settings["default"]
    settings["CONN_MAX_AGE"] = 0  # a request gives its connection back
    settings["OPTIONS"] = {
        **settings.get("OPTIONS", {}),
        "pool": {"min_size": MIN_SIZE, "max_size": max_size, "timeout": TIMEOUT_S, "max_idle": MAX_IDLE_S},
    }
