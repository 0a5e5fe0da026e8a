"""The job's feed: what a page shows live."""

from django.db import models

from agents.models.job import Job
from agents.models.step import Step


class FeedEntry(models.Model):
    """One thing that happened. `seq` is gap-free within the job (see `Job.feed_seq`).

    kind and data: `job` {state}, `step` {state, key, tool, …}, `log` {stream, text, attempt}, `token` {text},
    `note` {text}.
    """

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="feed", db_index=False)
    seq = models.PositiveIntegerField()
    step = models.ForeignKey(Step, null=True, on_delete=models.CASCADE, related_name="feed")
    kind = models.CharField(max_length=8)
    data = models.JSONField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["job", "seq"]
        constraints = [models.UniqueConstraint(fields=["job", "seq"], name="feed_seq")]

    def __str__(self) -> str:
        return f"{self.seq} {self.kind}"
