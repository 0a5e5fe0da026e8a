"""API tokens: stored hashed, with scopes and an end."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models

from audit.ids import uuid7


class ApiToken(models.Model):
    """`cs_` + 43 random characters + 6 of checksum; only the SHA-256 is kept. `hint` is what lists show."""

    class Scope(models.TextChoices):
        JOBS_READ = "jobs:read"
        JOBS_WRITE = "jobs:write"
        TRIGGERS_READ = "triggers:read"
        TRIGGERS_WRITE = "triggers:write"
        EVENTS_WRITE = "events:write"
        APPROVALS_READ = "approvals:read"
        APPROVALS_DECIDE = "approvals:decide"
        POLICIES_READ = "policies:read"
        POLICIES_WRITE = "policies:write"
        AUDIT_READ = "audit:read"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=120)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="who made it, where that is not its user",
    )
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    token_sha256 = models.CharField(max_length=64, unique=True)
    hint = models.CharField(max_length=16)
    scopes = ArrayField(models.CharField(max_length=40, choices=Scope.choices))
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"
