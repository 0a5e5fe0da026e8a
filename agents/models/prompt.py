"""Prompts and their versions, which steps used them, and what people thought of the work."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from agents.models.job import Job
from agents.models.step import Step
from audit.ids import uuid7


class Prompt(models.Model):
    """A named template of what a model is asked. Without an owner it came with the server.

    While it has a candidate, that share of the jobs that name no version gets the candidate instead of the newest.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=80, unique=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    candidate = models.ForeignKey(
        "agents.PromptVersion", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    candidate_share = models.PositiveSmallIntegerField(default=0, help_text="percent of the jobs")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(candidate_share__lte=100), name="prompt_candidate_share_percent")
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return f"/agents/prompts/{self.name}/"


class PromptVersion(models.Model):
    """One text of a prompt: a draft may change; published and retired versions never do (a trigger holds it)."""

    class Status(models.TextChoices):
        DRAFT = "draft"
        PUBLISHED = "published"
        RETIRED = "retired"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    prompt = models.ForeignKey(Prompt, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.DRAFT)
    source = models.TextField(help_text="YAML, as it was given")
    definition = models.JSONField(help_text="the source as data")
    sha256 = models.CharField(max_length=64, help_text="of the source's UTF-8 bytes")
    note = models.CharField(max_length=500, blank=True, help_text="what is new, in words")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    published_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    published_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["prompt", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["prompt", "number"], name="prompt_version_number"),
            models.CheckConstraint(
                condition=Q(status__in=["draft", "published", "retired"]), name="prompt_version_status_known"
            ),
            models.CheckConstraint(
                condition=Q(status="draft") | Q(published_at__isnull=False), name="prompt_version_published_whole"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prompt.name}@{self.number}"


class PromptUse(models.Model):
    """A step asked a model by this version."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    step = models.OneToOneField(Step, on_delete=models.PROTECT, related_name="prompt_use")
    job = models.ForeignKey(Job, on_delete=models.PROTECT, related_name="prompt_uses")
    version = models.ForeignKey(PromptVersion, on_delete=models.PROTECT, related_name="uses")
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.version_id} in {self.step_id}"


class Feedback(models.Model):
    """What a person thought of a job, or of one of its steps. Edits and denials stand with the approvals."""

    class Thumb(models.TextChoices):
        UP = "up"
        DOWN = "down"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    job = models.ForeignKey(Job, on_delete=models.PROTECT, related_name="feedback")
    step = models.ForeignKey(Step, null=True, blank=True, on_delete=models.PROTECT, related_name="feedback")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    thumb = models.CharField(max_length=4, choices=Thumb.choices)
    comment = models.CharField(max_length=2000, blank=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at"]
        verbose_name_plural = "feedback"
        constraints = [
            models.UniqueConstraint(fields=["job", "step", "by"], nulls_distinct=False, name="feedback_once"),
            models.CheckConstraint(condition=Q(thumb__in=["up", "down"]), name="feedback_thumb_known"),
        ]

    def __str__(self) -> str:
        return f"{self.thumb} for {self.job_id}"
