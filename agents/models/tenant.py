"""Tenants, and what bounds them: shares of the workers, places in the queue, rates of tools and model endpoints."""

from django.contrib.auth.models import Group
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

DEFAULT = "default"


class Tenant(models.Model):
    """Whose work it is, where workers are shared out. Users belong to it by their groups."""

    name = models.SlugField(max_length=80, unique=True)
    weight = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="1 to 100: its share of the workers against the others that wait",
    )
    max_running = models.PositiveIntegerField(
        null=True, blank=True, help_text="Steps that run (or lie with workers) at a time. Empty: no bound."
    )
    jobs_queued_max = models.PositiveIntegerField(
        null=True, blank=True, help_text="Unfinished jobs; another one is answered with 429. Empty: no bound."
    )
    groups = models.ManyToManyField(Group, blank=True, related_name="tenants", help_text="Their members belong to it.")

    class Meta:
        ordering = ["name"]
        constraints = [models.CheckConstraint(condition=Q(weight__gte=1, weight__lte=100), name="tenant_weight_range")]

    def __str__(self) -> str:
        return self.name


class FairQueue(models.Model):
    """What a queue's releases have come to: start-time fair queueing's clock, and each tenant's next start tag.

    Whoever releases holds this row's lock.
    """

    queue = models.CharField(primary_key=True, max_length=40)
    clock = models.FloatField(default=0.0)
    tags = models.JSONField(default=dict, help_text="{tenant id: virtual time}")

    def __str__(self) -> str:
        return self.queue


class RateLimit(models.Model):
    """How often, how much and how many at a time. Every enabled limit that matches a call holds."""

    class Kind(models.TextChoices):
        TOOL = "tool"
        ENDPOINT = "endpoint"  # of models

    name = models.SlugField(max_length=80, unique=True)
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.TOOL)
    pattern = models.CharField(
        max_length=300, help_text="of tools: git.push, git.*; of an endpoint's address: https://api.openai.com/*"
    )
    per_tenant = models.BooleanField(default=False, help_text="each tenant has it for itself")
    calls = models.PositiveIntegerField(null=True, blank=True, help_text="begun in a window; empty: no bound")
    tokens = models.PositiveIntegerField(
        null=True, blank=True, help_text="prompt and completion tokens in a window, of an endpoint; empty: no bound"
    )
    window_s = models.PositiveIntegerField(default=60, validators=[MinValueValidator(1)])
    max_running = models.PositiveIntegerField(null=True, blank=True, help_text="at a time; empty: no bound")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(calls__isnull=False) | Q(tokens__isnull=False) | Q(max_running__isnull=False),
                name="rate_limit_limits_something",
            ),
            models.CheckConstraint(
                condition=Q(window_s__gte=1) & ~Q(calls=0) & ~Q(tokens=0) & ~Q(max_running=0),
                name="rate_limit_lets_something_through",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class RateBucket(models.Model):
    """What is left of a limit, for everybody (no tenant) or for one tenant. Locked by whoever takes from it.

    `calls` and `tokens` are what may be spent as of `filled_at`; tokens are charged when they are known and may be
    below zero.
    """

    limit = models.ForeignKey(RateLimit, on_delete=models.CASCADE, related_name="buckets")
    tenant = models.ForeignKey(Tenant, null=True, on_delete=models.CASCADE, related_name="+")
    calls = models.FloatField(default=0.0)
    tokens = models.FloatField(default=0.0)
    typical_tokens = models.FloatField(default=0.0, help_text="of a call lately: counted for each that runs")
    filled_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["limit"], condition=Q(tenant__isnull=True), name="rate_bucket_of_all"),
            models.UniqueConstraint(fields=["limit", "tenant"], name="rate_bucket_of_tenant"),
        ]

    def __str__(self) -> str:
        return f"{self.limit_id}/{self.tenant_id or 'all'}"
