"""Evaluations: cases tried by agents and versions of prompts, each trial a job."""

from decimal import Decimal

from django.conf import settings
from django.db import models
from django.db.models import Q

from agents.models.job import Job
from audit.ids import uuid7


class Evaluation(models.Model):
    """A suite of cases, and who or what tries them. `arms` are names: `agent:developer`, `prompt:review@3`."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    suite = models.CharField(max_length=80)
    source = models.TextField(help_text="the suite, YAML, as it was given")
    definition = models.JSONField(help_text="the suite as data")
    sha256 = models.CharField(max_length=64, help_text="of the source's UTF-8 bytes")
    arms = models.JSONField(help_text="names, in the order of the table")
    repeats = models.PositiveSmallIntegerField(default=1)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.suite} {self.created_at:%Y-%m-%d %H:%M}"

    def get_absolute_url(self) -> str:
        return f"/agents/evaluations/{self.id}/"


class Trial(models.Model):
    """One case tried by one arm: a job, and once that has ended what came of it. `ok` is null until it was judged,
    and stays so, with a reason in `why`, where it was cancelled."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    evaluation = models.ForeignKey(Evaluation, on_delete=models.CASCADE, related_name="trials")
    case = models.CharField(max_length=80)
    arm = models.CharField(max_length=120)
    repeat = models.PositiveSmallIntegerField(default=1)
    job = models.ForeignKey(Job, null=True, blank=True, on_delete=models.PROTECT, related_name="trials")
    ok = models.BooleanField(null=True)
    why = models.CharField(max_length=1000, blank=True, help_text="where it failed")
    tokens = models.PositiveIntegerField(default=0)
    cost = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0), help_text="US dollars")
    latency_ms = models.PositiveIntegerField(default=0, help_text="from the job's start to its end")
    scripted = models.BooleanField(default=False, help_text="a scripted stand-in answered")

    class Meta:
        ordering = ["evaluation", "case", "arm", "repeat"]
        constraints = [
            models.UniqueConstraint(fields=["evaluation", "case", "arm", "repeat"], name="trial_once"),
            models.CheckConstraint(condition=Q(repeat__gte=1), name="trial_repeat_counts"),
        ]

    def __str__(self) -> str:
        return f"{self.case} by {self.arm}"
