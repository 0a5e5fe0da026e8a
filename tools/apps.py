import importlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.apps import AppConfig
from django.conf import settings

_BUILTIN: tuple[str, ...] = (
    "artifacts",
    "files",
    "patching",
    "arranging",
    "code",
    "git",
    "http",
    "human",
    "jobs",
    "shell",
    "workspace",
)


class ToolsConfig(AppConfig):
    name = "tools"

    def ready(self) -> None:
        """Registers the tools, tells the sandbox where workspaces are, and makes the server's secrets unspeakable."""
        from tools import admission, mcp, plugins, redact, registry, secrets
        from tools.plugins import loading
        from tools.pod import config as pods
        from tools.sandbox import probe

        for module in _BUILTIN:
            importlib.import_module(f"tools.builtin.{module}")
        admission.add_origin(plugins.KIND, loading.build)
        admission.add_origin(mcp.KIND, mcp.build)
        registry.add_source(admission.Admitted())
        probe.use_folder(Path(settings.WORKSPACE_DIR))
        pods.use(
            pods.PodConfig(
                engine=settings.POD_ENGINE,
                program=settings.POD_PROGRAM,
                image=settings.POD_IMAGE,
                runtime=settings.POD_RUNTIME,
                namespace=settings.POD_NAMESPACE,
                claim=settings.POD_VOLUME_CLAIM,
                base=str(settings.WORKSPACE_DIR),
                folders=settings.POD_FOLDERS,
            )
        )
        redact.register(
            settings.SECRET_KEY,
            settings.LLM_API_KEY,
            settings.EMAIL_HOST_PASSWORD,
            settings.SLACK_WEBHOOK_URL,
            str(settings.DATABASES["default"].get("PASSWORD", "")),
            unquote(urlsplit(settings.REDIS_URL).password or ""),
            settings.FLOWER_BASIC_AUTH.partition(":")[2],
            settings.SLACK_BOT_TOKEN,
            settings.SLACK_SIGNING_SECRET,
            settings.APPROVAL_WEBHOOK_SECRET,
            settings.AUDIT_S3_SECRET_KEY,
            unquote(urlsplit(settings.BROKER_URL).password or ""),
            *(str(app["secret"]) for app in settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"]),
        )
        secrets.keep_unspeakable()
