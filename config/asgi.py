"""The web server's entry point: `uvicorn config.asgi:application`."""

import os
from typing import cast

from django.core.asgi import get_asgi_application
from starlette.types import ASGIApp

from config import env
from config.pool import share_connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.prod")
pages = get_asgi_application()
share_connections(max_size=env.integer("DATABASE_POOL_MAX", 20))

from agents.mcp.app import Beside  # noqa: E402 — needs the models

application = Beside(cast(ASGIApp, pages))
