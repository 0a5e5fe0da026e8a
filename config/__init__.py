"""Composes the apps: settings, Celery, URLs, ASGI and the development stack. Nobody imports it but entry points."""
