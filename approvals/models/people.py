"""What people give and hold beyond single votes: break-glass, grants, deputies, identities in chats."""

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q

from approvals.models.policy import PolicyVersion
from approvals.models.request import ApprovalRequest
from audit.ids import uuid7


class Grant(models.Model):
    """ "This and alike for 30 minutes": leave for calls that fit, in one job, on one target, for a time and so many uses.

    It is used by one conditional UPDATE a call. Never for high risk.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    parent_id = models.CharField(max_length=64, help_text="the job's id")
    parent_path = models.CharField(max_length=200)
    tool = models.CharField(max_length=120)
    target = models.JSONField(default=dict, help_text="what must be the same: repository, branch, environment")
    matcher = models.JSONField(help_text="{argument: pattern}: the arguments that fit")
    words = models.CharField(max_length=500, help_text="the matcher as people read it")
    risk_max = models.CharField(max_length=6)
    policy_version = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, related_name="+")
    rule = models.CharField(max_length=80)
    from_request = models.ForeignKey(ApprovalRequest, on_delete=models.PROTECT, related_name="grants_given")
    given_by = models.JSONField(help_text="the users (primary keys) whose votes gave it")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    uses_max = models.PositiveSmallIntegerField()
    uses = models.PositiveSmallIntegerField(default=0)
    revoked_at = models.DateTimeField(null=True)
    revoked_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["parent_id", "tool"], condition=Q(revoked_at__isnull=True), name="grant_in_force")
        ]
        constraints = [models.CheckConstraint(condition=Q(uses__lte=models.F("uses_max")), name="grant_uses_bounded")]

    def __str__(self) -> str:
        return self.words


class Delegation(models.Model):
    """Somebody decides in a person's place from one day to another. It is dated, and not passed on."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="delegations_given")
    deputy = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="delegations_held")
    groups = models.ManyToManyField(
        Group, blank=True, related_name="+", help_text="Only as a member of these; empty: of all."
    )
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-starts_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__gt=models.F("starts_at")), name="delegation_ends_after_it_starts"
            ),
            models.CheckConstraint(condition=~Q(person=models.F("deputy")), name="nobody_is_their_own_deputy"),
        ]

    def __str__(self) -> str:
        return f"{self.deputy_id} for {self.person_id}"


class ChannelIdentity(models.Model):
    """A user's account in a chat: who presses a button there is judged as this user."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="channel_identities")
    channel = models.CharField(max_length=12)
    team = models.CharField(max_length=40)
    external_id = models.CharField(max_length=40)
    name = models.CharField(max_length=80, blank=True, default="", db_default="", help_text="as the chat showed it")
    linked_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "channel identities"
        constraints = [
            models.UniqueConstraint(fields=["channel", "team", "external_id"], name="one_user_an_identity"),
            models.UniqueConstraint(fields=["channel", "team", "user"], name="one_identity_a_user"),
        ]

    def __str__(self) -> str:
        return f"{self.channel}:{self.external_id}"


class SeenSignature(models.Model):
    """A signed request from outside that was taken already: the same one again is a replay. Old ones are swept."""

    digest = models.CharField(primary_key=True, max_length=64)
    at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.digest
