"""MCP servers, as rows: how each is started or reached, and what it may have."""

import re
import uuid
from typing import Any
from urllib.parse import urlsplit

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from audit.ids import uuid7
from tools.egress.allowlist import Allowlist
from tools.errors import ToolRefused

NAME = r"^[a-z][a-z0-9_]{0,39}$"
TIMEOUT_MAX_S = 3600
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_HANDLE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def _words(help_text: str, *, max_length: int = 500, size: int = 50) -> ArrayField:
    return ArrayField(models.CharField(max_length=max_length), size=size, default=list, blank=True, help_text=help_text)


class McpServer(models.Model):
    """A server by others that offers tools. Its tools are `mcp.NAME.TOOL`, each accepted by itself (`tools.admission`).

    A stdio server runs in the job's sandbox: it reads and writes what `profile` lets it, reaches `network`, and has of
    secrets what `secrets` names by handle. A server over HTTP is sent a bearer token by handle, or one that an
    authorization server gives for a client id and a secret by handle. Secrets stand nowhere here.
    """

    class Transport(models.TextChoices):
        STDIO = "stdio", "a command in the sandbox"
        HTTP = "http", "streamable HTTP"

    class Profile(models.TextChoices):
        READ = "read", "reads the work tree and the repository"
        BUILD = "build", "writes the work tree"
        GIT = "git", "writes the work tree and the repository"

    class Auth(models.TextChoices):
        NONE = "none", "nobody asks"
        BEARER = "bearer", "a token by handle"
        OAUTH = "oauth", "OAuth 2.1, client credentials"

    class Protocol(models.TextChoices):
        AUTO = "auto", "the newest that both know"
        LEGACY = "legacy", "2025-11-25 and before"
        MODERN = "2026-07-28", "2026-07-28"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(
        max_length=40, unique=True, help_text="the middle word of its tools: git for mcp.git.status"
    )
    description = models.CharField(max_length=300, blank=True, help_text="what it is for, and who minds it")
    transport = models.CharField(max_length=5, choices=Transport.choices, default=Transport.STDIO)
    protocol = models.CharField(max_length=10, choices=Protocol.choices, default=Protocol.AUTO)
    enabled = models.BooleanField(default=True, help_text="off: none of its tools may be called")

    command = models.CharField(max_length=500, blank=True, help_text="program that speaks MCP on its input and output")
    args = _words("Its arguments; {tree}, {repo} and {scratch} stand for the job's folders", max_length=2000)
    paths = _words("Folders beyond the system's that it may read: where it is installed", size=20)
    env = models.JSONField(default=dict, blank=True, help_text='variables that are no secrets: {"LANG": "C.UTF-8"}')
    secrets = models.JSONField(default=dict, blank=True, help_text='secrets by handle: {"API_TOKEN": "deploy-token"}')
    network = _words("Hosts that it may reach: api.example.org, *.example.org:8443. Empty: none", max_length=253)
    profile = models.CharField(max_length=5, choices=Profile.choices, default=Profile.READ)

    url = models.CharField(max_length=500, blank=True, help_text="https://mcp.example.org/mcp")
    auth = models.CharField(max_length=6, choices=Auth.choices, default=Auth.NONE)
    secret = models.CharField(max_length=63, blank=True, help_text="handle of the token, or of the client's secret")
    client_id = models.CharField(max_length=200, blank=True, help_text="OAuth: as whom the server asks for a token")
    issuer = models.CharField(max_length=500, blank=True, help_text="OAuth: the authorization server, and no other")
    scopes = models.CharField(max_length=500, blank=True, help_text="OAuth: separated by blanks")

    timeout_s = models.PositiveIntegerField(default=120, help_text="seconds that a call may take")
    idle_s = models.PositiveIntegerField(default=120, help_text="seconds that its session stays open between calls")
    found_at = models.DateTimeField(null=True, editable=False, help_text="when it was looked at last")
    found = models.JSONField(default=dict, editable=False, help_text="what it said of itself: name, version, protocol")
    problem = models.TextField(blank=True, editable=False, help_text="why the last look failed")
    revision = models.UUIDField(
        default=uuid.uuid4, editable=False, help_text="another whenever it is saved in the admin"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "MCP server"
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(name__regex=NAME), name="mcp_server_name"),
            models.CheckConstraint(
                condition=(Q(transport="stdio", url="") & ~Q(command=""))
                | (Q(transport="http", command="") & ~Q(url="")),
                name="mcp_server_transport",
            ),
            models.CheckConstraint(
                condition=Q(auth="none", secret="") | (Q(transport="http") & ~Q(secret="")), name="mcp_server_auth"
            ),
            models.CheckConstraint(
                condition=Q(timeout_s__gte=1, timeout_s__lte=TIMEOUT_MAX_S), name="mcp_server_timeout"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def facts(self) -> dict[str, Any]:
        """How it is started or reached, as its tools' definitions hold it: another way is another tool."""
        named = {"transport": str(self.transport), "protocol": str(self.protocol)}
        if self.transport == self.Transport.STDIO:
            return {
                **named,
                "command": self.command,
                "args": list(self.args),
                "paths": list(self.paths),
                "env": dict(self.env),
                "secrets": dict(self.secrets),
                "network": list(self.network),
                "profile": str(self.profile),
            }
        oauth = {"client_id": self.client_id, "issuer": self.issuer, "scopes": self.scopes}
        return {
            **named,
            "url": self.url,
            "auth": str(self.auth),
            **({"secret": self.secret} if self.secret else {}),
            **(oauth if self.auth == self.Auth.OAUTH else {}),
        }

    def clean(self) -> None:
        """Raises ValidationError where a field says what could never work."""
        wrong = self._stdio_flaws() if self.transport == self.Transport.STDIO else self._http_flaws()
        if not re.fullmatch(NAME, self.name or ""):
            wrong["name"] = "A word in lower case: letters, digits, _; it begins with a letter."
        if not 1 <= (self.timeout_s or 0) <= TIMEOUT_MAX_S:
            wrong["timeout_s"] = f"From 1 to {TIMEOUT_MAX_S} seconds."
        if wrong:
            raise ValidationError(wrong)

    def _stdio_flaws(self) -> dict[str, str]:
        wrong = {}
        if not self.command:
            wrong["command"] = "Say which program to start."
        if self.url or self.auth != self.Auth.NONE or self.secret:
            wrong["url"] = "A command in the sandbox has no URL and no token: give it secrets in variables."
        if any(not path.startswith("/") or "\0" in path for path in self.paths or []):
            wrong["paths"] = "Whole paths, such as /opt/mcp/git."
        if not _all_texts(self.env) or any(not _VARIABLE.fullmatch(name) for name in self.env):
            wrong["env"] = "An object of variables and texts."
        if not _all_texts(self.secrets) or any(
            not _VARIABLE.fullmatch(name) or not _HANDLE.fullmatch(handle) for name, handle in self.secrets.items()
        ):
            wrong["secrets"] = "An object of variables and names of secrets."
        try:
            Allowlist.parse(self.network or [])
        except ToolRefused as error:
            wrong["network"] = error.message
        return wrong

    def _http_flaws(self) -> dict[str, str]:
        wrong = {}
        if self.command:
            wrong["command"] = "A server over HTTP is not started from here."
        if _no_address(self.url):
            wrong["url"] = "An address such as https://mcp.example.org/mcp, without a password in it."
        if self.auth != self.Auth.NONE and not _HANDLE.fullmatch(self.secret or ""):
            wrong["secret"] = "Name the secret's handle."
        if self.auth == self.Auth.NONE and self.secret:
            wrong["secret"] = "Nobody asks for it."
        if self.auth == self.Auth.OAUTH:
            if not self.client_id:
                wrong["client_id"] = "Say as whom."
            if _no_address(self.issuer):
                wrong["issuer"] = "The address of the authorization server: the secret goes there and nowhere else."
        return wrong


def _all_texts(given: Any) -> bool:
    return isinstance(given, dict) and all(isinstance(one, str) for pair in given.items() for one in pair)


def _no_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.port == 0
    except ValueError:
        return True
