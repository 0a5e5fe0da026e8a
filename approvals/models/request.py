"""Requests to people, their votes and questions back, and approvals in an emergency."""

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q, Value

from approvals.models.policy import PolicyVersion
from audit.ids import uuid7


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
    # what else must be so for it to be approved, copied from the rule when it was asked
    roles = models.JSONField(
        default=list,
        db_default=Value([], models.JSONField()),
        help_text="[{group, name, count}]: further groups of which so many different members must agree",
    )
    second_factor = models.BooleanField(default=False, db_default=False)
    execution_expires_s = models.PositiveIntegerField(default=86_400, db_default=86_400)
    execution_expires_at = models.DateTimeField(null=True, help_text="of an approved one: when it counts for nothing")
    escalate_to = models.ForeignKey(Group, null=True, on_delete=models.PROTECT, related_name="+")
    escalated_at = models.DateTimeField(null=True, help_text="since when `escalate_to` may decide too")
    reminders = models.PositiveSmallIntegerField(default=0, db_default=0, help_text="how many went out")
    remind_at = models.DateTimeField(null=True, help_text="when the next reminder or the escalation is due")
    grant_max_s = models.PositiveIntegerField(default=0, db_default=0)
    environment = models.CharField(max_length=40, blank=True, default="", db_default="")
    tenant = models.CharField(max_length=80, blank=True, default="", db_default="")
    blast = models.JSONField(
        default=dict, db_default=Value({}, models.JSONField()), help_text="what it touches, in counts"
    )
    # exclusion at the vote: who took part, and in what part ("requester", "editor", "token owner", …)
    excluded_as = models.JSONField(default=dict, db_default=Value({}, models.JSONField()), help_text="{user id: part}")
    replaces = models.ForeignKey(
        "self",
        null=True,
        on_delete=models.PROTECT,
        related_name="replaced_by",
        help_text="the one that it stands for now",
    )
    changed = models.JSONField(
        default=list,
        db_default=Value([], models.JSONField()),
        help_text="what differs from the one it replaces, in words",
    )
    alike = models.CharField(
        max_length=64, blank=True, default="", db_default="", help_text="digest that like requests share"
    )
    grant = models.ForeignKey("Grant", null=True, on_delete=models.PROTECT, related_name="requests")
    break_glass = models.BooleanField(default=False, db_default=False)
    policies_at = models.DateTimeField(null=True, help_text="when the policies were last asked about it")

    class Meta:
        ordering = ["expires_at"]
        indexes = [
            models.Index(fields=["state", "expires_at"]),
            models.Index(fields=["subject_id"]),
            models.Index(fields=["parent_id"]),
            models.Index(fields=["remind_at"], condition=Q(state="pending"), name="approval_to_remind"),
            models.Index(fields=["alike"], condition=Q(state="pending"), name="approval_alike"),
            models.Index(
                fields=["execution_expires_at"],
                condition=Q(state="approved", execution_expires_at__isnull=False),
                name="approval_to_run",
            ),
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
    """One person's answer. A person has one vote a request that stands; one that was taken back stays as a row."""

    class Verdict(models.TextChoices):
        APPROVE = "approve"
        DENY = "deny"
        ANSWER = "answer"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    request = models.ForeignKey(ApprovalRequest, on_delete=models.PROTECT, related_name="votes")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    verdict = models.CharField(max_length=7, choices=Verdict.choices)
    reason = models.TextField(blank=True)
    channel = models.CharField(max_length=12, help_text="page, api, admin, cli, slack, batch, grant")
    at = models.DateTimeField()
    on_behalf_of = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="whose place the voter takes (out of office)",
    )
    second_factor_at = models.DateTimeField(null=True, help_text="when the voter last gave a second factor")
    withdrawn_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["request", "user"], condition=Q(withdrawn_at__isnull=True), name="one_vote_a_person"
            ),
            # a person away has one vote as well, whoever casts it
            models.UniqueConstraint(
                fields=["request", "on_behalf_of"],
                condition=Q(withdrawn_at__isnull=True, on_behalf_of__isnull=False),
                name="one_vote_on_behalf",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.verdict}"


class Comment(models.Model):
    """What approvers ask back about a request, and what the agent or people answer. The clock goes on meanwhile."""

    class State(models.TextChoices):
        OPEN = "open"
        ANSWERED = "answered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    request = models.ForeignKey(ApprovalRequest, on_delete=models.PROTECT, related_name="comments")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    text = models.TextField()
    channel = models.CharField(max_length=12)
    at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    answer = models.TextField(blank=True, help_text="untrusted where an agent wrote it")
    answered_by = models.CharField(max_length=200, blank=True, help_text="agent:NAME or user:ID")
    answered_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["at"]

    def __str__(self) -> str:
        return self.text[:80]


class BreakGlass(models.Model):
    """An approval outside the rules, for an emergency, with its reason. Somebody else must review it afterwards."""

    class Verdict(models.TextChoices):
        OPEN = "open"
        JUSTIFIED = "justified"
        UNJUSTIFIED = "unjustified"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    request = models.OneToOneField(ApprovalRequest, on_delete=models.PROTECT, related_name="glass")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    reason = models.TextField()
    at = models.DateTimeField()
    review_by = models.DateTimeField(help_text="when the review is overdue")
    verdict = models.CharField(max_length=11, choices=Verdict.choices, default=Verdict.OPEN)
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    review = models.TextField(blank=True)
    reviewed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-at"]
        verbose_name_plural = "break glass"
        permissions = [("break_the_glass", "Can approve in an emergency, outside the rules, with a review afterwards")]

    def __str__(self) -> str:
        return f"break-glass of {self.request_id}"
