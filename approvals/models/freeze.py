"""Freeze windows: times in which calls that would be allowed are refused, or asked about."""

from typing import Any
from uuid import uuid4

from django.contrib.auth.models import Group
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from audit.ids import uuid7


def every_tool() -> list[str]:
    return ["*"]


def effects_that_stay() -> list[str]:
    """What a freeze is about where it does not say: effects that cannot be repeated, such as a push."""
    return ["once"]


class FreezeWindow(models.Model):
    """From `starts_at` until `ends_at` nothing that fits is allowed: it is denied, or people are asked.

    It only takes leave away: what no policy allows stays denied. Each save gives it a new `revision`, by which
    decisions that were made before are known to be old.
    """

    class Effect(models.TextChoices):
        ASK = "ask"
        DENY = "deny"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    revision = models.UUIDField(default=uuid4, editable=False)
    name = models.SlugField(max_length=80, unique=True)
    reason = models.CharField(max_length=500, help_text="Shown to approvers, requesters and the agent.")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    environments = ArrayField(
        models.CharField(max_length=40),
        default=list,
        blank=True,
        help_text="Environments of repositories, with *; empty: any.",
    )
    repositories = ArrayField(
        models.CharField(max_length=80), default=list, blank=True, help_text="Repositories' names, with *; empty: any."
    )
    tools = ArrayField(
        models.CharField(max_length=120), default=every_tool, help_text="Tool names, with *: git.push, git.*"
    )
    effects = ArrayField(
        models.CharField(max_length=10),
        default=effects_that_stay,
        blank=True,
        help_text="Tools' effects: read, repeatable, once; empty: any.",
    )
    effect = models.CharField(max_length=4, choices=Effect.choices, default=Effect.DENY)
    approvers = models.ForeignKey(Group, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    quorum = models.PositiveSmallIntegerField(default=1)
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["starts_at"]
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="freeze_ends_after_it_starts"),
            models.CheckConstraint(
                condition=~Q(effect="ask") | Q(approvers__isnull=False), name="freeze_ask_names_its_approvers"
            ),
            models.CheckConstraint(condition=Q(quorum__gte=1), name="freeze_quorum_is_positive"),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.revision = uuid4()
        super().save(*args, **kwargs)
