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


class ArchivedLog(models.Model):
    """Where a job's old entries stand: a gzip member of a day's file (see `agents.archive`).

    day: of the file, when the job ended (UTC); offset, size_bytes: of the member; sha256: of the member, hex.
    A job that was run again later has another row for its later entries.
    """

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(Job, on_delete=models.PROTECT, related_name="archived_logs", db_index=False)
    day = models.DateField()
    first_seq = models.PositiveIntegerField()
    last_seq = models.PositiveIntegerField()
    offset = models.BigIntegerField()
    size_bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    at = models.DateTimeField()

    class Meta:
        ordering = ["job", "first_seq"]
        constraints = [
            models.UniqueConstraint(fields=["job", "first_seq"], name="archived_log_once"),
            models.UniqueConstraint(fields=["day", "offset"], name="archived_log_place"),
        ]

    def __str__(self) -> str:
        return f"{self.first_seq} to {self.last_seq} of {self.job_id}"
