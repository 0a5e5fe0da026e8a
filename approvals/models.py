"""Policies by version, requests to people, their votes, links and notifications."""

from django.conf import settings
from django.contrib.auth.models import Group
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from audit.ids import uuid7


class Policy(models.Model):
    """A named set of rules. What runs is its published version; drafts change nothing."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=80, unique=True)
    description = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "policies"

    def __str__(self) -> str:
        return self.name


class PolicyVersion(models.Model):
    """draft -> published -> retired. Immutable once published (a trigger holds it); one published version a policy."""

    class Status(models.TextChoices):
        DRAFT = "draft"
        PUBLISHED = "published"
        RETIRED = "retired"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.DRAFT)
    notes = models.TextField(blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    published_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    published_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["policy", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["policy", "number"], name="policy_version_number"),
            models.UniqueConstraint(
                fields=["policy"], condition=Q(status="published"), name="one_published_version_a_policy"
            ),
        ]
        permissions = [("publish_policyversion", "Can publish and retire policy versions")]

    def __str__(self) -> str:
        return f"{self.policy.name}@{self.number}"


class PolicyRule(models.Model):
    """One rule. `tools` are names with `*` (`git.*`); `condition` is CEL over the call, empty means always.

    A matching deny wins over everything; otherwise the first matching rule by `order` decides; nothing matched is
    denied.
    """

    class Effect(models.TextChoices):
        ALLOW = "allow"
        ASK = "ask"
        DENY = "deny"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    version = models.ForeignKey(PolicyVersion, on_delete=models.CASCADE, related_name="rules")
    order = models.PositiveIntegerField()
    name = models.SlugField(max_length=80)
    tools = ArrayField(models.CharField(max_length=120), help_text="Tool names; * matches any part: git.*, files.read")
    condition = models.TextField(blank=True, help_text="A CEL expression that gives true or false; empty: always.")
    effect = models.CharField(max_length=5, choices=Effect.choices)
    reason = models.CharField(max_length=500, blank=True, help_text="Shown to approvers, requesters and the agent.")
    approvers = models.ForeignKey(Group, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    quorum = models.PositiveSmallIntegerField(default=1)
    expires_s = models.PositiveIntegerField(default=86_400, help_text="Seconds until an unanswered request expires.")

    class Meta:
        ordering = ["version", "order"]
        constraints = [
            # deferred, so that two rules may change places
            models.UniqueConstraint(
                fields=["version", "order"], name="rule_order", deferrable=models.Deferrable.DEFERRED
            ),
            models.UniqueConstraint(fields=["version", "name"], name="rule_name"),
            models.CheckConstraint(
                condition=~Q(effect="ask") | Q(approvers__isnull=False), name="ask_names_its_approvers"
            ),
            models.CheckConstraint(condition=Q(quorum__gte=1), name="quorum_is_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.order}. {self.name} ({self.effect})"


class ApprovalRequest(models.Model):
    """A question to people about one exact call (or, for kind `question`, a question of the agent's).

    pending -> approved | denied | expired | cancelled, and approved -> void when what would run is no longer what was
    approved. One conditional UPDATE decides.
    """

    class Kind(models.TextChoices):
        APPROVAL = "approval"
        QUESTION = "question"

    class State(models.TextChoices):
        PENDING = "pending"
        APPROVED = "approved"
        DENIED = "denied"
        EXPIRED = "expired"
        CANCELLED = "cancelled"
        VOID = "void"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.APPROVAL)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    # what it is about, by type and id text: this app does not know jobs or steps
    subject_type = models.CharField(max_length=40)
    subject_id = models.CharField(max_length=64)
    parent_id = models.CharField(max_length=64, help_text="the job's id")
    parent_path = models.CharField(max_length=200, help_text="path of the job's page")
    title = models.CharField(max_length=300, help_text="one sentence of effect")
    command = models.TextField(help_text="the exact call as an approver reads it")
    call = models.JSONField(help_text="tool, schema_version, arguments, workspace_id, target_state, preview_digest")
    digest = models.CharField(max_length=64)
    preview = models.TextField(blank=True)
    preview_at = models.DateTimeField(null=True)
    risk = models.CharField(max_length=6)
    risk_reasons = models.JSONField(default=list)
    context = models.JSONField(default=dict, help_text="agent, requester's name, repository, goal, the agent's reason")
    policy_version = models.ForeignKey(PolicyVersion, null=True, on_delete=models.PROTECT, related_name="+")
    rule = models.CharField(max_length=80, blank=True)
    rule_reason = models.CharField(max_length=500, blank=True)
    approvers = models.ForeignKey(Group, null=True, on_delete=models.PROTECT, related_name="+")
    quorum = models.PositiveSmallIntegerField(default=1)
    requester = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    excluded_ids = models.JSONField(default=list, help_text="users (primary keys) that may not vote")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)
    answer = models.TextField(blank=True, help_text="the reason of a denial, or the answer to a question")

    class Meta:
        ordering = ["expires_at"]
        indexes = [
            models.Index(fields=["state", "expires_at"]),
            models.Index(fields=["subject_id"]),
            models.Index(fields=["parent_id"]),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["subject_type", "subject_id"],
                condition=Q(state="pending"),
                name="one_pending_request_a_subject",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return f"/approvals/{self.id}/"


class Vote(models.Model):
    """One person's answer. A person votes once a request."""

    class Verdict(models.TextChoices):
        APPROVE = "approve"
        DENY = "deny"
        ANSWER = "answer"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    request = models.ForeignKey(ApprovalRequest, on_delete=models.PROTECT, related_name="votes")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    verdict = models.CharField(max_length=7, choices=Verdict.choices)
    reason = models.TextField(blank=True)
    channel = models.CharField(max_length=12, help_text="page, api, admin, cli")
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["request", "user"], name="one_vote_a_person")]

    def __str__(self) -> str:
        return f"{self.user_id} {self.verdict}"


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

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    request = models.ForeignKey(ApprovalRequest, on_delete=models.CASCADE, related_name="notifications")
    recipient = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    channel = models.CharField(max_length=12, help_text="email or slack")
    state = models.CharField(max_length=8, choices=State.choices, default=State.QUEUED)
    attempts = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField(help_text="while it is being sent: when it is taken as lost")
    published_at = models.DateTimeField(null=True, help_text="when its task was last sent to the broker")
    sent_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes = [models.Index(fields=["state", "not_before"])]

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
