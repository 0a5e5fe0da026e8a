"""What jobs and people want to be remembered."""

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from django.db.models import Q

from agents.models.agent import Agent, Repository
from agents.models.job import Job
from audit.ids import uuid7


class Memory(models.Model):
    """One thing that later jobs may recall, once it is admitted.

    `scope` says whose jobs: `repository:<id>`, `person:<id>` or `all`; `agent` narrows it to one agent's. What is
    forgotten loses its words and stays as an empty row, so that the same thing is not learned again by itself. Where
    the server has pgvector, the table has one more column, `embedding`, which no model knows (`agents.memory.vectors`);
    `embedding_model` says whose vector it is.
    """

    class Kind(models.TextChoices):
        EPISODE = "episode", "what happened"
        FACT = "fact", "what is so"
        LESSON = "lesson", "what to do another time"

    class State(models.TextChoices):
        PROPOSED = "proposed", "proposed"
        ADMITTED = "admitted", "admitted"
        REJECTED = "rejected", "rejected"
        FORGOTTEN = "forgotten", "forgotten"

    class Origin(models.TextChoices):
        PERSON = "person", "a person wrote it"
        AGENT = "agent", "an agent proposed it"
        OUTCOME = "outcome", "from how a job ended"
        DENIAL = "denial", "from a person's denial"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    state = models.CharField(max_length=9, choices=State.choices, default=State.PROPOSED)
    origin = models.CharField(max_length=8, choices=Origin.choices)
    scope = models.CharField(max_length=60)
    repository = models.ForeignKey(
        Repository, null=True, blank=True, on_delete=models.CASCADE, related_name="memories", db_index=False
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    agent = models.ForeignKey(
        Agent, null=True, blank=True, on_delete=models.CASCADE, related_name="memories", help_text="empty: any agent"
    )
    text = models.TextField()
    untrusted = models.BooleanField(
        default=True, help_text="its words come from a model, or from what a job read; not from a person"
    )
    key = models.CharField(max_length=160, unique=True, help_text="what it was learned from: nothing is learned twice")
    job = models.ForeignKey(Job, null=True, blank=True, on_delete=models.SET_NULL, related_name="memories")
    step_id = models.UUIDField(null=True, blank=True)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
        help_text="whose words they are",
    )
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_why = models.CharField(max_length=300, blank=True, help_text="a person's reason, or the policy's rule")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="empty: it is kept until it is forgotten")
    embedding_model = models.CharField(max_length=120, blank=True, help_text="empty: it has no vector")
    dimensions = models.PositiveIntegerField(null=True, blank=True)
    used = models.PositiveIntegerField(default=0, help_text="how often a job recalled it")
    used_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    search = models.GeneratedField(
        expression=SearchVector("text", config="english"), output_field=SearchVectorField(), db_persist=True
    )

    class Meta:
        ordering = ["-created_at"]
        verbose_name_plural = "memories"
        permissions = [("admit_memory", "Can admit memories of every project and agent")]
        indexes = [
            GinIndex(fields=["search"], name="memory_search"),
            models.Index(fields=["scope", "state", "-created_at"], name="memory_scope"),
            models.Index(fields=["state", "-created_at"], name="memory_state"),
            models.Index(fields=["repository"], condition=Q(repository__isnull=False), name="memory_repository"),
            models.Index(
                fields=["scope", "-decided_at"],
                condition=Q(state="admitted", kind__in=["fact", "lesson"])
                & (Q(untrusted=False) | Q(decided_by__isnull=False)),
                name="memory_told",
            ),
            models.Index(fields=["expires_at"], condition=Q(expires_at__isnull=False), name="memory_expiry"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="forgotten", text="") | (~Q(state="forgotten") & ~Q(text="")),
                name="memory_forgotten_is_empty",
            ),
            models.CheckConstraint(
                condition=Q(repository__isnull=False, owner__isnull=True, scope__startswith="repository:")
                | Q(repository__isnull=True, owner__isnull=False, scope__startswith="person:")
                | Q(repository__isnull=True, owner__isnull=True, scope="all"),
                name="memory_scope_says_whose",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.text[:60]}"
