"""Permits: what may run, exactly once. Definitions: tools by others, and who let them be used.

The models of this app's packages are named here, where Django looks.
"""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from audit.ids import uuid7
from tools.artifacts.models import Artifact
from tools.mcp.models import McpServer
from tools.secrets.models import SecretHandle

__all__ = ["Artifact", "McpServer", "Permit", "SecretHandle", "ToolDefinition"]


class Permit(models.Model):
    """Leave to run one exact call once.

    `digest` is `Call.digest()`; `subject` is the step's id as text. Spent by one conditional UPDATE.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    subject = models.CharField(max_length=64)
    digest = models.CharField(max_length=64)
    granted_by = models.CharField(max_length=200, help_text="policy version and rule, or the approval's id")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    spent_at = models.DateTimeField(null=True)
    spent_by = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes = [models.Index(fields=["subject"])]

    def __str__(self) -> str:
        return f"permit {self.id} for {self.subject}"


class ToolDefinition(models.Model):
    """A tool that is not the server's own, as it was found, and as an administrator lets it be used.

    Written by `tools.admission` alone. It is usable while `enabled`, which a CHECK binds to "what was found last is what
    was accepted"; `found` = `definition` hashed as `tools.admission.digest_of`. `revision` changes with each write.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100, unique=True)
    origin = models.CharField(max_length=200, help_text="where it comes from, such as plugin:NAME")
    definition = models.JSONField(default=dict, help_text="as it was found last")
    found_sha256 = models.CharField(max_length=64)
    found_at = models.DateTimeField(help_text="when this definition was first seen")
    problem = models.TextField(blank=True, help_text="why it cannot be used, whatever anybody says")
    pinned = models.JSONField(null=True, help_text="the definition that was accepted last")
    pinned_sha256 = models.CharField(max_length=64, blank=True)
    effect = models.CharField(max_length=12, blank=True, help_text="as set by who enabled it: read, repeatable, once")
    queue = models.CharField(max_length=40, blank=True)
    version = models.PositiveIntegerField(default=0, help_text="of its calls: raised whenever it is enabled as another")
    enabled = models.BooleanField(default=False)
    enabled_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    enabled_at = models.DateTimeField(null=True)
    revision = models.UUIDField(default=uuid.uuid4, editable=False)

    class Meta:
        verbose_name = "tool by others"
        verbose_name_plural = "tools by others"
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(enabled=False)
                | (Q(problem="", pinned__isnull=False, version__gt=0) & Q(pinned_sha256=F("found_sha256")))
                & ~Q(pinned_sha256=""),
                name="tool_enabled_as_accepted",
            )
        ]

    def __str__(self) -> str:
        return self.name
