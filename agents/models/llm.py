"""The ledger of model calls: a row an attempt."""

from django.db import models

from agents.models.step import Step
from audit.ids import uuid7


class LlmCall(models.Model):
    """One request to a model endpoint, answered or not."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    step = models.ForeignKey(Step, on_delete=models.PROTECT, related_name="llm_calls")
    attempt = models.PositiveIntegerField()
    endpoint = models.CharField(max_length=300)
    model = models.CharField(max_length=120)
    scripted = models.BooleanField(default=False)
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    latency_ms = models.PositiveIntegerField(default=0)
    finish_reason = models.CharField(max_length=40, blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    error = models.TextField(blank=True)
    request_sha256 = models.CharField(max_length=64)
    answer = models.JSONField(null=True, help_text="the validated message: content and tool calls")
    at = models.DateTimeField()

    class Meta:
        ordering = ["step", "at"]
        verbose_name = "model call"

    def __str__(self) -> str:
        return f"{self.model} for {self.step_id}"
