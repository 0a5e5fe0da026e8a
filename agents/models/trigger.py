"""What starts jobs where no person does: schedules, incoming webhooks, rules over events. And outgoing webhooks."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from agents.models.job import Job
from audit.ids import uuid7


class Schedule(models.Model):
    """Starts a job at the times of a cron expression in a time zone, or every so many seconds.

    `next_due_at` is the earliest time that has no run yet; None where it is paused or never fires again.
    """

    class CatchUp(models.TextChoices):
        SKIP = "skip"  # what was missed stays missed
        LAST = "last"  # the latest of the missed times runs
        ALL = "all"  # every missed time runs, up to a bound

    class Overlap(models.TextChoices):
        ALLOW = "allow"
        SKIP = "skip"  # a time that comes while the last job is unfinished is left out
        QUEUE = "queue"  # it waits until that job has ended

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=80, unique=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    enabled = models.BooleanField(default=True)
    cron = models.CharField(max_length=200, blank=True, help_text="five fields: minute hour day month weekday")
    time_zone = models.CharField(max_length=64, default="UTC", help_text="IANA name, such as Europe/Berlin")
    interval_s = models.PositiveIntegerField(null=True, blank=True, help_text="seconds, in place of cron")
    payload = models.JSONField(help_text="the submission, as POST /api/v1/jobs takes it; ${{ CEL }} over `schedule`")
    catch_up = models.CharField(max_length=4, choices=CatchUp.choices, default=CatchUp.LAST)
    overlap = models.CharField(max_length=5, choices=Overlap.choices, default=Overlap.SKIP)
    next_due_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=(~Q(cron="") & Q(interval_s__isnull=True)) | (Q(cron="") & Q(interval_s__isnull=False)),
                name="schedule_cron_or_interval",
            )
        ]
        indexes = [models.Index(fields=["next_due_at"], condition=Q(enabled=True), name="schedule_due")]

    def __str__(self) -> str:
        return self.name


class Webhook(models.Model):
    """An address that others post to: POST /hooks/<name>/. What it starts belongs to its owner."""

    class Scheme(models.TextChoices):
        STANDARD = "standard", "Standard Webhooks"
        GITHUB = "github", "GitHub (X-Hub-Signature-256)"
        GITLAB = "gitlab", "GitLab (X-Gitlab-Token)"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=80, unique=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    enabled = models.BooleanField(default=True)
    scheme = models.CharField(max_length=8, choices=Scheme.choices, default=Scheme.STANDARD)
    secret_sealed = models.TextField(editable=False, help_text="encrypted: signatures are checked with it")
    secret_hint = models.CharField(max_length=16, editable=False)
    condition = models.TextField(blank=True, help_text="CEL over body and headers: false leaves a delivery out")
    payload = models.JSONField(null=True, blank=True, help_text="the submission; ${{ CEL }} over body and headers")
    event = models.CharField(max_length=120, blank=True, help_text="name of the event that each delivery emits")
    event_key = models.TextField(blank=True, help_text="CEL: the event's correlation key, such as body.after")
    tolerance_s = models.PositiveIntegerField(default=300, help_text="how far a delivery's time may lie from ours")
    rate_per_minute = models.PositiveIntegerField(default=60)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]
        verbose_name = "incoming webhook"

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return f"/hooks/{self.name}/"


class TriggerEvent(models.Model):
    """Something happened. Rules of the same owner are asked about it once: `handled_at` is when."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=120)
    key = models.CharField(max_length=200, blank=True, help_text="what it is about, such as a commit")
    data = models.JSONField(default=dict)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    source = models.CharField(max_length=200, help_text="job:<id>, webhook:<name>, api")
    at = models.DateTimeField()
    handled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "event"
        indexes = [
            models.Index(fields=["id"], condition=Q(handled_at__isnull=True), name="trigger_event_new"),
            models.Index(fields=["at"], name="trigger_event_at"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.key}".strip()


class WebhookDelivery(models.Model):
    """One request to an incoming webhook, and what became of it.

    `replay_key` is set where it was taken: what the sender signed of its identity, so that it counts once.
    """

    class Outcome(models.TextChoices):
        STARTED = "started"
        EMITTED = "emitted"  # an event, and no job
        FILTERED = "filtered"
        REFUSED = "refused"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    delivery_id = models.CharField(max_length=200, blank=True)
    replay_key = models.CharField(max_length=64, null=True)
    outcome = models.CharField(max_length=8, choices=Outcome.choices)
    code = models.CharField(max_length=40, blank=True)
    reason = models.TextField(blank=True)
    job = models.ForeignKey(Job, null=True, on_delete=models.SET_NULL, related_name="+")
    event = models.ForeignKey(TriggerEvent, null=True, on_delete=models.SET_NULL, related_name="+")
    body_sha256 = models.CharField(max_length=64)
    size_bytes = models.PositiveIntegerField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "webhook deliveries"
        constraints = [models.UniqueConstraint(fields=["webhook", "replay_key"], name="webhook_delivery_once")]
        indexes = [models.Index(fields=["at"], name="webhook_delivery_at")]

    def __str__(self) -> str:
        return f"{self.outcome} {self.delivery_id}".strip()


class EventRule(models.Model):
    """Starts a job when each of its events has come for the same key within a window.

    `events` is a list of {name, when}: a name (with * for anything) and a CEL condition over `event`.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=80, unique=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    enabled = models.BooleanField(default=True)
    events = models.JSONField()
    correlation = models.TextField(blank=True, help_text="CEL over `event`: what must be the same; empty: event.key")
    window_s = models.PositiveIntegerField(default=3600)
    payload = models.JSONField(help_text="the submission; ${{ CEL }} over `key` and `events` (a list, as above)")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class TriggerRun(models.Model):
    """A job that a schedule or a rule starts: written once, whoever finds it due, and submitted from its row."""

    class State(models.TextChoices):
        DUE = "due"
        STARTED = "started"
        SKIPPED = "skipped"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    schedule = models.ForeignKey(Schedule, null=True, on_delete=models.CASCADE, related_name="runs")
    rule = models.ForeignKey(EventRule, null=True, on_delete=models.CASCADE, related_name="runs")
    due_at = models.DateTimeField()
    key = models.CharField(max_length=200, blank=True, help_text="a rule's correlation key")
    fingerprint = models.CharField(max_length=64, blank=True, help_text="a rule's: SHA-256 of the events' ids")
    state = models.CharField(max_length=7, choices=State.choices, default=State.DUE)
    not_before = models.DateTimeField(null=True)
    code = models.CharField(max_length=40, blank=True)
    reason = models.TextField(blank=True)
    job = models.ForeignKey(Job, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["schedule", "due_at"], name="schedule_run_once"),
            models.UniqueConstraint(fields=["rule", "key", "fingerprint"], name="rule_run_once"),
            models.CheckConstraint(
                condition=Q(schedule__isnull=False, rule__isnull=True) | Q(schedule__isnull=True, rule__isnull=False),
                name="run_of_schedule_or_rule",
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(state="due"), name="trigger_run_due"),
            models.Index(fields=["ended_at"], name="trigger_run_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.schedule or self.rule} {self.due_at:%Y-%m-%d %H:%M}"


class EventMatch(models.Model):
    """An event that fills one place of a rule. `run` is what it took part in; without one it waits for the others."""

    id = models.BigAutoField(primary_key=True)
    rule = models.ForeignKey(EventRule, on_delete=models.CASCADE, related_name="matches")
    place = models.PositiveSmallIntegerField(help_text="in the rule's list, from 0")
    key = models.CharField(max_length=200)
    event = models.ForeignKey(TriggerEvent, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()
    run = models.ForeignKey(TriggerRun, null=True, on_delete=models.CASCADE, related_name="matches")

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["rule", "place", "event"], name="event_match_once")]
        indexes = [models.Index(fields=["rule", "key", "at"], condition=Q(run__isnull=True), name="event_match_open")]

    def __str__(self) -> str:
        return f"{self.rule_id} {self.place} {self.key}"


class WebhookEndpoint(models.Model):
    """Where we post to: what happens to its owner's jobs, signed by the Standard Webhooks specification."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=80, unique=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    address = models.CharField(max_length=500)
    events = models.JSONField(help_text="names such as job.finished; [] for every event")
    secret_sealed = models.TextField(editable=False, help_text="encrypted: messages are signed with it")
    secret_hint = models.CharField(max_length=16, editable=False)
    enabled = models.BooleanField(default=True)
    disabled_reason = models.TextField(blank=True, editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    not_before = models.DateTimeField(null=True, editable=False, help_text="a sender's lease")
    published_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]
        verbose_name = "webhook endpoint"

    def __str__(self) -> str:
        return self.name


class WebhookMessage(models.Model):
    """One message to one endpoint. Its id is the `webhook-id`, the same in every attempt."""

    class State(models.TextChoices):
        QUEUED = "queued"
        SENT = "sent"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="messages")
    event = models.CharField(max_length=60)
    body = models.TextField(help_text="as it is signed and sent")
    state = models.CharField(max_length=6, choices=State.choices, default=State.QUEUED)
    attempts = models.PositiveSmallIntegerField(default=0)
    tries_left = models.PositiveSmallIntegerField(help_text="of the current round: a replay begins another")
    not_before = models.DateTimeField()
    error = models.TextField(blank=True)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "outgoing message"
        indexes = [
            models.Index(fields=["endpoint", "not_before"], condition=Q(state="queued"), name="webhook_message_due"),
            models.Index(fields=["ended_at"], name="webhook_message_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.endpoint_id}"


class WebhookAttempt(models.Model):
    """One try to deliver a message: what the other side said."""

    id = models.BigAutoField(primary_key=True)
    message = models.ForeignKey(WebhookMessage, on_delete=models.CASCADE, related_name="tries")
    number = models.PositiveSmallIntegerField()
    at = models.DateTimeField()
    duration_ms = models.PositiveIntegerField()
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP; None: no answer")
    error = models.TextField(blank=True)
    answer = models.TextField(blank=True, help_text="the beginning of the answer's body")

    class Meta:
        ordering = ["message", "number"]
        verbose_name = "delivery attempt"
        constraints = [models.UniqueConstraint(fields=["message", "number"], name="webhook_attempt_number")]

    def __str__(self) -> str:
        return f"{self.number}. {self.status or self.error}"
