from django.apps import AppConfig


class ConfigConfig(AppConfig):
    name = "config"

    def ready(self) -> None:
        from config import (
            celery,  # noqa: F401  every process that publishes needs the configured app
            checks,  # noqa: F401  registers them
        )
