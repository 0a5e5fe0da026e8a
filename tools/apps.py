import importlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.apps import AppConfig
from django.conf import settings

_BUILTIN: tuple[str, ...] = ("files", "git", "human", "jobs", "shell", "workspace")


class ToolsConfig(AppConfig):
    name = "tools"

    def ready(self) -> None:
        """Registers the tools, tells the sandbox where workspaces are, and makes the server's secrets unspeakable."""
        from tools import redact
        from tools.sandbox import probe

        for module in _BUILTIN:
            importlib.import_module(f"tools.builtin.{module}")
        probe.use_folder(Path(settings.WORKSPACE_DIR))
        redact.register(
            settings.SECRET_KEY,
            settings.LLM_API_KEY,
            settings.EMAIL_HOST_PASSWORD,
            settings.SLACK_WEBHOOK_URL,
            str(settings.DATABASES["default"].get("PASSWORD", "")),
            unquote(urlsplit(settings.REDIS_URL).password or ""),
            settings.FLOWER_BASIC_AUTH.partition(":")[2],
        )
