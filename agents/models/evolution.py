"""Candidates of a population search."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from agents.models.job import Job
from agents.models.step import Step
from audit.ids import uuid7


class Candidate(models.Model):
    """One way to write the files of a search: generation 0 is what was there, the others a model wrote.

    `score` is what the command printed, null until it ran and where it failed (`viable` is then False).
    """

    class Operator(models.TextChoices):
        ORIGIN = "origin"
        MUTATE = "mutate"
        CROSS = "cross"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    job = models.ForeignKey(Job, on_delete=models.PROTECT, related_name="candidates")
    generation = models.PositiveSmallIntegerField()
    number = models.PositiveSmallIntegerField()
    operator = models.CharField(max_length=6, choices=Operator.choices)
    parents = ArrayField(models.UUIDField(), default=list, blank=True)
    idea = models.CharField(max_length=1000, blank=True, help_text="of the model, in its words")
    files = models.JSONField(help_text="{path: text}")
    sha256 = models.CharField(max_length=64, help_text="of the files: alike candidates are measured once")
    proposed_by = models.ForeignKey(Step, on_delete=models.PROTECT, related_name="+")
    measured_by = models.ForeignKey(Step, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    viable = models.BooleanField(null=True)
    score = models.FloatField(null=True, blank=True)
    output = models.TextField(blank=True, help_text="the end of what the command wrote")
    at = models.DateTimeField()

    class Meta:
        ordering = ["job", "generation", "number"]
        constraints = [models.UniqueConstraint(fields=["job", "generation", "number"], name="candidate_once")]

    def __str__(self) -> str:
        return f"{self.generation}.{self.number} of {self.job_id}"
