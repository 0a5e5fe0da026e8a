"""Endpoints of models, and the routes by which calls find one."""

from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from audit.ids import uuid7


class Capability(models.TextChoices):
    """What an endpoint's model can do. Nothing is tried out: who adds the endpoint says it."""

    CHAT = "chat", "answers"
    TOOLS = "tools", "calls functions"
    JSON_SCHEMA = "json_schema", "answers by a JSON Schema"
    JSON_OBJECT = "json_object", "answers with a JSON object"
    EMBEDDINGS = "embeddings", "turns texts into vectors"


def _chat() -> list[str]:
    return [Capability.CHAT, Capability.TOOLS]


class ModelEndpoint(models.Model):
    """One model at one OpenAI-compatible address: what it can do, what it costs, and how much may be asked of it.

    Without any row the server's settings (OPENAI_BASE_URL, LLM_MODEL) are the one endpoint. Prices are US dollars a
    million tokens.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=80, unique=True)
    base_url = models.CharField(max_length=300, help_text="up to /v1: https://api.openai.com/v1")
    model = models.CharField(max_length=120, help_text="its name at that address")
    key = models.CharField(max_length=80, blank=True, help_text="the secret handle of its key; empty: none is sent")
    capabilities = ArrayField(models.CharField(max_length=20, choices=Capability.choices), default=_chat)
    context_tokens = models.PositiveIntegerField(default=128_000, help_text="that prompt and answer must fit in")
    output_tokens = models.PositiveIntegerField(default=8192, help_text="of an answer, at most")
    dimensions = models.PositiveIntegerField(null=True, blank=True, help_text="of its vectors")
    prompt_price = models.DecimalField(max_digits=12, decimal_places=6, default=Decimal(0))
    cached_price = models.DecimalField(
        max_digits=12,
        decimal_places=6,
        null=True,
        blank=True,
        help_text="of prompt tokens that it had kept; empty: the same",
    )
    completion_price = models.DecimalField(max_digits=12, decimal_places=6, default=Decimal(0))
    timeout_s = models.PositiveIntegerField(default=120, validators=[MinValueValidator(1)])
    cache_s = models.PositiveIntegerField(
        default=0, help_text="how long the answer to the very same request is used again; 0: never"
    )
    max_running = models.PositiveIntegerField(null=True, blank=True, help_text="calls at a time; empty: no bound")
    calls_a_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_a_minute = models.PositiveIntegerField(null=True, blank=True)
    private = models.BooleanField(default=True, help_text="may be shown what is labelled private")
    scripted = models.BooleanField(default=False, help_text="a stand-in that only knows its script")
    enabled = models.BooleanField(default=True)
    failures = models.PositiveIntegerField(
        default=0, editable=False, help_text="one after the other, without a success"
    )
    open_until = models.DateTimeField(null=True, editable=False, help_text="not asked before: it failed too often")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(prompt_price__gte=0, completion_price__gte=0), name="model_endpoint_prices_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ModelRoute(models.Model):
    """A named choice of endpoints. Those that cannot do what a call needs, or are out of order, are passed over."""

    class Strategy(models.TextChoices):
        ORDER = "order", "the first, then the next"
        WEIGHT = "weight", "by weight"
        COST = "cost", "the cheapest first"
        LATENCY = "latency", "the fastest lately first"

    name = models.SlugField(max_length=80, unique=True)
    strategy = models.CharField(max_length=8, choices=Strategy.choices, default=Strategy.ORDER)
    is_default = models.BooleanField(default=False, help_text="for agents that name no route")

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["is_default"], condition=Q(is_default=True), name="model_route_one_default")
        ]

    def __str__(self) -> str:
        return self.name


class RouteEntry(models.Model):
    """An endpoint on a route. Lower `order` first; among the same order by the route's strategy."""

    route = models.ForeignKey(ModelRoute, on_delete=models.CASCADE, related_name="entries")
    endpoint = models.ForeignKey(ModelEndpoint, on_delete=models.PROTECT, related_name="+")
    order = models.PositiveSmallIntegerField(default=0)
    weight = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])

    class Meta:
        ordering = ["route", "order", "pk"]
        verbose_name_plural = "route entries"
        constraints = [models.UniqueConstraint(fields=["route", "endpoint"], name="route_entry_once")]

    def __str__(self) -> str:
        return f"{self.route_id}: {self.endpoint_id}"
