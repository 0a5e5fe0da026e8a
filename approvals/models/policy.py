"""Policies by version, their rules, and what a draft in shadow would have decided."""

from django.conf import settings
from django.contrib.auth.models import Group
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q, Value

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
    proposed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="who asks a second person to publish it",
    )
    proposed_at = models.DateTimeField(null=True, blank=True)
    proposed_sha256 = models.CharField(
        max_length=64, blank=True, help_text="of the rules as they were proposed: an edit takes the proposal back"
    )
    backtest = models.JSONField(
        null=True, blank=True, help_text="the last backtest: days, rules_sha256, counts by flip, who acknowledged what"
    )
    shadow_since = models.DateTimeField(
        null=True, blank=True, help_text="while it is set, this draft is evaluated beside what is published"
    )
    shadow = models.JSONField(
        null=True, blank=True, help_text="how far the shadow has come: position in the log, counts, rules_sha256"
    )

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
    match = models.JSONField(
        default=dict,
        blank=True,
        db_default=Value({}, models.JSONField()),
        help_text="What else must fit, each a list of patterns or a setting (docs/reference/policies): empty: anything.",
    )
    effect = models.CharField(max_length=5, choices=Effect.choices)
    constraints = models.JSONField(
        default=dict,
        blank=True,
        db_default=Value({}, models.JSONField()),
        help_text="How the call must run: sandbox profile, network allow-list, limits, a dry run first.",
    )
    reason = models.CharField(max_length=500, blank=True, help_text="Shown to approvers, requesters and the agent.")
    approvers = models.ForeignKey(Group, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    quorum = models.PositiveSmallIntegerField(default=1)
    expires_s = models.PositiveIntegerField(default=86_400, help_text="Seconds until an unanswered request expires.")
    execution_expires_s = models.PositiveIntegerField(
        default=86_400, db_default=86_400, help_text="Seconds from the approval until it counts for nothing."
    )
    escalate_to = models.ForeignKey(
        Group,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="This group may decide too once three quarters of the time are over.",
    )
    grant_max_s = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Longest grant for alike calls that an approver may give; 0: none."
    )
    second_factor = models.BooleanField(
        default=False, db_default=False, help_text="Approving takes a fresh second factor (always so at high risk)."
    )

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


class RuleApprovers(models.Model):
    """A further group of which `count` different members must agree, besides the rule's own group and quorum."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    rule = models.ForeignKey(PolicyRule, on_delete=models.CASCADE, related_name="roles")
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+")
    count = models.PositiveSmallIntegerField(default=1)

    class Meta:
        ordering = ["group"]
        verbose_name_plural = "rule approvers"
        constraints = [
            models.UniqueConstraint(fields=["rule", "group"], name="one_count_a_group_of_a_rule"),
            models.CheckConstraint(condition=Q(count__gte=1), name="role_count_is_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.count} of {self.group}"


class ShadowDecision(models.Model):
    """Where a draft that runs in shadow would have decided otherwise than what is published."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    version = models.ForeignKey(PolicyVersion, on_delete=models.CASCADE, related_name="differences")
    subject_id = models.CharField(max_length=64, help_text="the step's id")
    parent_id = models.CharField(max_length=64, help_text="the job's id")
    tool = models.CharField(max_length=120)
    command = models.TextField(blank=True)
    live = models.JSONField(help_text="effect, policy, rule")
    draft = models.JSONField(help_text="effect, rule, reason")
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at"]
        indexes = [models.Index(fields=["version", "-at"])]

    def __str__(self) -> str:
        return f"{self.tool}: {self.live.get('effect')} -> {self.draft.get('effect')}"
