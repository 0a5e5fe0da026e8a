"""Permits: what may run, exactly once. The models of this app's packages are named here, where Django looks."""

from django.db import models

from audit.ids import uuid7
from tools.artifacts.models import Artifact
from tools.secrets.models import SecretHandle

__all__ = ["Artifact", "Permit", "SecretHandle"]


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
