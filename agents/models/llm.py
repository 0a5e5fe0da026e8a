"""The ledger of model calls: a row an attempt."""

from decimal import Decimal

from django.db import models
from django.db.models import Q

from agents.models.job import Job
from agents.models.step import Step
from audit.ids import uuid7


class LlmCall(models.Model):
    """One request to a model endpoint, answered or not.

    The row is there before the request goes out, and reserves what it may cost at most; when it has ended it holds what
    it did cost. One whose worker died (`lost`) keeps its reservation: nobody can tell what the endpoint charged.
    """

    class State(models.TextChoices):
        OPEN = "open"
        ENDED = "ended"
        LOST = "lost"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    step = models.ForeignKey(Step, on_delete=models.PROTECT, related_name="llm_calls")
    job = models.ForeignKey(Job, null=True, on_delete=models.PROTECT, related_name="llm_calls")
    state = models.CharField(max_length=5, choices=State.choices, default=State.ENDED, db_default=State.ENDED)
    purpose = models.CharField(max_length=40, default="", db_default="", blank=True, help_text="the tool that asked")
    endpoint_name = models.CharField(max_length=80, default="", db_default="", blank=True)
    route = models.CharField(max_length=80, default="", db_default="", blank=True)
    reserved_tokens = models.PositiveIntegerField(default=0, db_default=0)
    reserved_cost = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0), db_default=Decimal(0))
    cost = models.DecimalField(
        max_digits=14,
        decimal_places=6,
        default=Decimal(0),
        db_default=Decimal(0),
        help_text="US dollars, by the endpoint's prices",
    )
    cached_tokens = models.PositiveIntegerField(
        default=0, db_default=0, help_text="of the prompt, kept by the endpoint"
    )
    from_cache = models.BooleanField(default=False, db_default=False, help_text="answered from our own cache")
    first_token_ms = models.PositiveIntegerField(null=True, blank=True)
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
        indexes = [
            models.Index(fields=["job"], name="llm_call_job"),
            models.Index(fields=["-at"], name="llm_call_at"),
            models.Index(fields=["endpoint_name", "-at"], name="llm_call_endpoint"),
            models.Index(fields=["step"], condition=Q(state="open"), name="llm_call_open"),
        ]

    def __str__(self) -> str:
        return f"{self.model} for {self.step_id}"


class CachedAnswer(models.Model):
    """An answer that the very same request gets again, while the endpoint's `cache_s` lasts."""

    key = models.CharField(primary_key=True, max_length=64, help_text="SHA-256 of endpoint and request")
    endpoint_name = models.CharField(max_length=80)
    answer = models.JSONField()
    prompt_tokens = models.PositiveIntegerField()
    completion_tokens = models.PositiveIntegerField()
    at = models.DateTimeField()
    hits = models.PositiveIntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["endpoint_name", "at"], name="cached_answer_age")]

    def __str__(self) -> str:
        return f"{self.endpoint_name} {self.key[:8]}"
