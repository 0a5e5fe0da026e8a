"""Workflows and their versions."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from audit.ids import uuid7


class Workflow(models.Model):
    """A named definition of a job. What runs is one of its published versions; without an owner it came with the server."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=80, unique=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return f"/workflows/{self.name}/"


class WorkflowVersion(models.Model):
    """One text of a workflow: a draft may change; published and retired versions never do (a trigger holds it).

    Several versions may be published at once: a job that names none gets the highest.
    """

    class Status(models.TextChoices):
        DRAFT = "draft"
        PUBLISHED = "published"
        RETIRED = "retired"  # jobs that run on it end on it; no new one starts

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.DRAFT)
    source = models.TextField(help_text="YAML or JSON, as it was given")
    definition = models.JSONField(null=True, help_text="the source as data; null while a draft cannot be read")
    sha256 = models.CharField(max_length=64, help_text="of the source's UTF-8 bytes")
    note = models.CharField(max_length=500, blank=True, help_text="what is new, in words")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    published_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    published_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["workflow", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["workflow", "number"], name="workflow_version_number"),
            models.CheckConstraint(
                condition=Q(status__in=["draft", "published", "retired"]), name="workflow_version_status_known"
            ),
            models.CheckConstraint(
                condition=Q(status="draft") | Q(definition__isnull=False, published_at__isnull=False),
                name="workflow_version_published_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.workflow.name}@{self.number}"

    def get_absolute_url(self) -> str:
        return f"/workflows/{self.workflow.name}/{self.number}/"
