"""Links, the outbox of messages, and the development mailbox."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models

from approvals.models.request import ApprovalRequest
from audit.ids import uuid7


class ApprovalLink(models.Model):
    """A link in a message: it finds the request; the login authorises. The token is stored as SHA-256 only."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    token_sha256 = models.CharField(max_length=64, unique=True)
    request = models.ForeignKey(ApprovalRequest, on_delete=models.CASCADE, related_name="links")
    recipient = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    channel = models.CharField(max_length=12)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"link to {self.request_id}"


class Notification(models.Model):
    """The outbox: a message to send about a request. Sent after commit by a task; the sweeper retries what is due."""

    class State(models.TextChoices):
        QUEUED = "queued"
        SENT = "sent"
        FAILED = "failed"
        DROPPED = "dropped"  # nobody needs it any more: the request was closed first

    class Kind(models.TextChoices):
        REQUEST = "request"
        REMINDER = "reminder"
        ESCALATION = "escalation"
        OUTCOME = "outcome"
        UPDATE = "update"  # of a message that stands already, in channels that can change theirs

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    request = models.ForeignKey(ApprovalRequest, on_delete=models.CASCADE, related_name="notifications")
    recipient = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    channel = models.CharField(max_length=12, help_text="a channel's name: email, slack, webhook")
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.REQUEST, db_default=Kind.REQUEST)
    part_of = models.ForeignKey(
        "self",
        null=True,
        on_delete=models.SET_NULL,
        related_name="parts",
        help_text="the message that told of several requests, this one among them",
    )
    place = models.CharField(
        max_length=200, blank=True, default="", db_default="", help_text="where the message stands, as its channel says"
    )
    state = models.CharField(max_length=8, choices=State.choices, default=State.QUEUED)
    attempts = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField(help_text="while it is being sent: when it is taken as lost")
    published_at = models.DateTimeField(null=True, help_text="when its task was last sent to the broker")
    sent_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["state", "not_before"]),
            models.Index(fields=["recipient", "sent_at"], name="notification_of_whom"),
        ]

    def __str__(self) -> str:
        return f"{self.channel} about {self.request_id}"


class MailboxMessage(models.Model):
    """A mail as the development mailbox page shows it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    sent_at = models.DateTimeField()
    sender = models.CharField(max_length=320)
    recipients = ArrayField(models.CharField(max_length=320))
    subject = models.CharField(max_length=998)
    text = models.TextField(blank=True)
    html = models.TextField(blank=True)
    source = models.BinaryField()

    class Meta:
        ordering = ["-sent_at"]

    def __str__(self) -> str:
        return self.subject
