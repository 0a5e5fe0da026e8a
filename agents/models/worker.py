"""Worker processes as they report themselves."""

from django.db import models


class WorkerProcess(models.Model):
    """A process that consumes queues. `seen_at` is renewed by its heartbeat thread."""

    name = models.CharField(primary_key=True, max_length=200)
    group = models.CharField(max_length=40)
    queues = models.JSONField(default=list)
    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    threads = models.PositiveIntegerField(default=1)
    version = models.CharField(max_length=40)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    stopped_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["group", "name"]
        verbose_name_plural = "worker processes"

    def __str__(self) -> str:
        return self.name
