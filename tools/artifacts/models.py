"""Artifacts: what a job made and people keep."""

from django.db import models
from django.db.models.functions import Now

from audit.ids import uuid7


class Artifact(models.Model):
    """A file that a step kept. Its content stands outside the workspace, by its SHA-256 (see `tools.artifacts.store`).

    workspace_id: the job's; subject: the step's id as text; path: where it lay in the work tree; redacted: how many
    secrets were taken out of it; purged_at, purged_why: set once the content is no longer kept, which the row outlives.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace_id = models.UUIDField()
    subject = models.CharField(max_length=64)
    name = models.CharField(max_length=200)
    path = models.CharField(max_length=1024)
    content_type = models.CharField(max_length=100)
    size_bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    redacted = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())
    purged_at = models.DateTimeField(null=True)
    purged_why = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace_id", "subject", "name"], name="artifact_name"),
            models.CheckConstraint(condition=models.Q(size_bytes__gte=0), name="artifact_size"),
            models.CheckConstraint(condition=models.Q(sha256__regex=r"^[0-9a-f]{64}$"), name="artifact_sha256"),
        ]
        indexes = [
            models.Index(fields=["sha256"], condition=models.Q(purged_at__isnull=True), name="artifact_kept"),
            models.Index(fields=["created_at"], condition=models.Q(purged_at__isnull=True), name="artifact_oldest"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.workspace_id}"
