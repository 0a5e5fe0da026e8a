"""Plans: what an agent means to do for a goal, before it does it."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from agents.models.job import Job
from agents.models.step import Step
from audit.ids import uuid7


class Plan(models.Model):
    """One version of a job's plan. `steps` never change: an edit and a new plan are versions of their own.

    proposed -> running -> ended, or replaced by a later version. `round` counts the agent's plans: 1 is the first, each
    later one is a replanning. A person's edit stays in its round.
    """

    class State(models.TextChoices):
        PROPOSED = "proposed"  # waits for policy, or for a person
        RUNNING = "running"
        ENDED = "ended"
        REPLACED = "replaced"

    class Origin(models.TextChoices):
        AGENT = "agent"
        PERSON = "person"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    job = models.ForeignKey(Job, on_delete=models.PROTECT, related_name="plans", db_index=False)
    number = models.PositiveIntegerField()
    round = models.PositiveSmallIntegerField(default=1)
    origin = models.CharField(max_length=6, choices=Origin.choices)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    step = models.ForeignKey(
        Step, null=True, on_delete=models.PROTECT, related_name="+", help_text="the model's turn that made it"
    )
    state = models.CharField(max_length=8, choices=State.choices, default=State.PROPOSED)
    steps = models.JSONField(help_text="[{key, tool, arguments, needs, success_check, reason, instead_of}]")
    note = models.TextField(blank=True, help_text="why so, in the author's words: untrusted")
    forecast = models.JSONField(
        default=dict, help_text="{key: {effect, policy, rule, reason, risk}}: what policy says of each step today"
    )
    before_untrusted = models.BooleanField(
        default=False, help_text="made before the job read anything that others wrote, or by a person"
    )
    sha256 = models.CharField(max_length=64, help_text="of the steps' canonical JSON")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["job", "number"]
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="plan_number"),
            models.UniqueConstraint(
                fields=["job"], condition=Q(state__in=["proposed", "running"]), name="plan_one_alive"
            ),
        ]

    def __str__(self) -> str:
        return f"plan {self.number} of {self.job_id}"
