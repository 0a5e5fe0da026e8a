"""Conversations. What was said stands in jobs: each turn is a job of kind `chat`, its goal what the person wrote and its
outcome what the agent answered."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from agents.models.agent import Agent, Repository
from agents.models.tenant import Tenant
from audit.ids import uuid7


class Conversation(models.Model):
    """A chat of one person with one agent, and the jobs that were started from it.

    `summary` stands for the turns that began at `summarised_to` and before, where the agent is asked; their rows stay.

    A deleted one is found by nobody and says nothing. Its row stays, since the labels of what was read in it stick to the
    jobs that were started from it.
    """

    class Titled(models.TextChoices):
        WORDS = "words"  # the first words of the first message
        MODEL = "model"
        PERSON = "person"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="conversations")
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="conversations")
    repository = models.ForeignKey(Repository, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    tenant = models.ForeignKey(Tenant, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    title = models.CharField(max_length=200, blank=True)
    titled_by = models.CharField(max_length=6, choices=Titled.choices, default=Titled.WORDS)
    summary = models.TextField(blank=True)
    summarised_to = models.DateTimeField(null=True, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True, help_text="kept, but not in the list")
    deleted_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    said_at = models.DateTimeField(help_text="of the newest message")

    class Meta:
        ordering = ["-said_at"]
        indexes = [models.Index(fields=["owner", "-said_at"], name="conversation_list")]
        constraints = [
            models.CheckConstraint(
                condition=Q(summary="") | Q(summarised_to__isnull=False), name="conversation_summary_of_turns"
            ),
            models.CheckConstraint(
                condition=Q(deleted_at=None) | Q(title="", summary=""), name="conversation_deleted_says_nothing"
            ),
        ]

    def __str__(self) -> str:
        return self.title or "A conversation"

    def get_absolute_url(self) -> str:
        return f"/chat/{self.id}/"


class ConversationLink(models.Model):
    """Lets whoever is signed in and has its address read a conversation, until it ends or is taken back.

    sha256: of the address's secret, which is told once; until: turns that began later are not shown (empty: all are).
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="links")
    sha256 = models.CharField(max_length=64, unique=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    opened = models.PositiveIntegerField(default=0)
    opened_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"link of {self.created_at:%Y-%m-%d} to {self.conversation_id}"
