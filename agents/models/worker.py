"""Worker processes as they report themselves, and how the engine sees that they work."""

from django.db import models
from django.db.models import Q

from agents.models.step import Step
from audit.ids import uuid7


class WorkerProcess(models.Model):
    """A process that consumes queues. Its heartbeat thread renews `seen_at` and reads `told`."""

    class Told(models.TextChoices):
        DRAIN = "drain"  # end what runs, begin nothing, exit in order
        RESTART = "restart"  # it does not consume: end what runs and exit hard, so that the supervisor starts it again

    name = models.CharField(primary_key=True, max_length=200)
    group = models.CharField(max_length=40)
    queues = models.JSONField(default=list)
    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    threads = models.PositiveIntegerField(default=1)
    version = models.CharField(max_length=40)
    busy = models.PositiveIntegerField(default=0, db_default=0, help_text="messages that it handles now")
    rss_bytes = models.PositiveBigIntegerField(default=0, db_default=0)
    draining = models.BooleanField(default=False, db_default=False)
    told = models.CharField(max_length=7, choices=Told.choices, blank=True, default="", db_default="")
    told_at = models.DateTimeField(null=True)
    told_why = models.CharField(max_length=200, blank=True, default="", db_default="")
    consumed_at = models.DateTimeField(null=True, help_text="when it last took a message")
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    stopped_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["group", "name"]
        verbose_name_plural = "worker processes"

    def __str__(self) -> str:
        return self.name


class Canary(models.Model):
    """A queue's small message: sent every few seconds, taken by whichever of its workers is free.

    `number` counts the messages; `since` is when the first one was sent that nobody has taken yet, and `sends` how many
    were sent since then.
    """

    queue = models.CharField(primary_key=True, max_length=40)
    number = models.PositiveBigIntegerField(default=0)
    sent_at = models.DateTimeField()
    since = models.DateTimeField(null=True)
    sends = models.PositiveIntegerField(default=0)
    taken_at = models.DateTimeField(null=True)
    taken_by = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["queue"]
        verbose_name_plural = "canaries"

    def __str__(self) -> str:
        return self.queue


class Handling(models.Model):
    """A preview or a probe that a worker is busy with. The row goes when it ends; what stays with `lost_at` took its
    worker with it."""

    class What(models.TextChoices):
        PREVIEW = "preview"
        PROBE = "probe"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="handlings")
    attempt = models.PositiveIntegerField()
    what = models.CharField(max_length=7, choices=What.choices)
    worker = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    began_at = models.DateTimeField()
    lost_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["began_at"]
        indexes = [models.Index(fields=["worker"], condition=Q(lost_at__isnull=True), name="handling_now")]

    def __str__(self) -> str:
        return f"{self.what} of {self.step_id}"


class Duty(models.Model):
    """What one process at a time may do, such as sweeping. Whoever takes it over raises `fence`, and every act of its
    holder checks that the fence is still its own."""

    name = models.CharField(primary_key=True, max_length=40)
    holder = models.CharField(max_length=200, blank=True)
    fence = models.PositiveBigIntegerField(default=0)
    until = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "duties"

    def __str__(self) -> str:
        return self.name
