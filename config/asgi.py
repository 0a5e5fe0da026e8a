"""The web server's entry point: `uvicorn config.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

from config import env
from config.pool import share_connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.prod")
application = get_asgi_application()
share_connections(max_size=env.integer("DATABASE_POOL_MAX", 20))
