"""Jobs."""

from decimal import Decimal

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector
from django.db import models
from django.db.models import Q, Value

from agents.models.agent import Agent, AgentVersion, Repository, Team
from agents.models.chat import Conversation
from agents.models.tenant import Tenant
from agents.models.workflow import WorkflowVersion
from agents.states import JOB_DONE, JobState
from audit.ids import uuid7


class Job(models.Model):
    """One piece of work. The legal moves of `state` stand in `agents.states.JOB_MOVES`.

    `feed_seq` numbers the job's feed: whoever writes an entry increments it in the same transaction, so that
    entries commit in the order of their numbers and a reader's cursor misses none.
    """

    class Kind(models.TextChoices):
        GOAL = "goal"
        PLAN = "plan"
        WORKFLOW = "workflow"
        CHAT = "chat"  # one turn of a conversation

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    goal = models.TextField(help_text="what to reach; for a plan, its title; for a chat, the message")
    agent = models.ForeignKey(Agent, null=True, blank=True, on_delete=models.PROTECT, related_name="jobs")
    agent_version = models.ForeignKey(
        AgentVersion,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="jobs",
        db_index=False,
        help_text="what its agent's profile said when it was submitted: the job stays with it",
    )
    team = models.ForeignKey(
        Team, null=True, blank=True, on_delete=models.SET_NULL, related_name="jobs", db_index=False
    )
    repository = models.ForeignKey(Repository, null=True, blank=True, on_delete=models.PROTECT, related_name="jobs")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="jobs")
    tenant = models.ForeignKey(
        Tenant,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="jobs",
        db_index=False,
        help_text="whose share of the workers it uses; empty: the default tenant's",
    )
    priority = models.SmallIntegerField(default=5, help_text="0 (first) to 9 (last)")
    labels = models.JSONField(default=dict)
    state = models.CharField(max_length=12, choices=JobState.choices, default=JobState.QUEUED)
    cancel_requested = models.BooleanField(default=False)
    workflow_version = models.ForeignKey(
        WorkflowVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="jobs"
    )
    inputs = models.JSONField(default=dict, help_text="of a workflow, checked against its schema")
    outputs = models.JSONField(null=True, blank=True)
    trigger = models.CharField(
        max_length=200, blank=True, help_text="what started it where no person did: schedule:nightly, webhook:ci"
    )
    took_part = models.JSONField(
        default=dict,
        blank=True,
        db_default=Value({}, models.JSONField()),
        help_text="{user id: part}: who had a part in its submission besides its owner, such as the token's maker",
    )
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="children")
    parent_step = models.ForeignKey(
        "agents.Step", null=True, blank=True, on_delete=models.PROTECT, related_name="child_jobs"
    )
    grant = models.JSONField(
        default=list, blank=True, help_text="of a delegated job: tool patterns by level, all of which must cover a call"
    )
    workspace_of = models.UUIDField(
        null=True, blank=True, help_text="the job whose workspace this one works in; its own where empty"
    )
    conversation = models.ForeignKey(
        Conversation,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="jobs",
        db_index=False,
        help_text="the one that it is a turn of (kind chat), or that it was started from",
    )
    depth = models.PositiveSmallIntegerField(default=0, help_text="of delegation: 0 is a person's own job")
    forked_from = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="forks")
    concurrency_key = models.CharField(
        max_length=200, blank=True, help_text="of the jobs that share a key, one runs at a time"
    )
    holds_key = models.BooleanField(
        default=False, db_default=False, help_text="it is the one job of its tenant and key that may run"
    )
    starts_at = models.DateTimeField(null=True, blank=True, help_text="not before: a row, never a countdown")
    deadline_at = models.DateTimeField(null=True, blank=True, help_text="the wall-clock limit")
    outcome = models.TextField(blank=True, help_text="what the agent says at the end, or why the job failed")
    paused_because = models.CharField(
        max_length=300, blank=True, default="", db_default="", help_text="where no person paused it: why"
    )
    idempotency_key = models.CharField(max_length=200, blank=True)
    request_sha256 = models.CharField(max_length=64, blank=True)
    max_steps = models.PositiveIntegerField(default=60)
    max_tokens = models.PositiveIntegerField(default=400_000)
    tokens_used = models.PositiveIntegerField(default=0)
    max_cost = models.DecimalField(
        max_digits=14, decimal_places=6, null=True, blank=True, help_text="US dollars; empty: no bound"
    )
    cost_used = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0), db_default=Decimal(0))
    feed_seq = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    log_archived_at = models.DateTimeField(
        null=True, blank=True, help_text="its feed stands in the archive (see agents.archive)"
    )

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["-created_at"], name="job_created"),
            models.Index(fields=["-finished_at"], condition=Q(finished_at__isnull=False), name="job_finished"),
            models.Index(
                fields=["finished_at"],
                condition=Q(finished_at__isnull=False, log_archived_at__isnull=True),
                name="job_log_to_archive",
            ),
            models.Index(fields=["state", "created_at"]),
            models.Index(fields=["agent_version"], condition=Q(agent_version__isnull=False), name="job_agent_version"),
            models.Index(fields=["team"], condition=Q(team__isnull=False), name="job_team"),
            models.Index(fields=["owner", "-created_at"]),
            models.Index(fields=["tenant", "owner"], condition=~Q(state__in=sorted(JOB_DONE)), name="job_unfinished"),
            models.Index(
                fields=["concurrency_key", "created_at"],
                condition=~Q(concurrency_key="") & ~Q(state__in=sorted(JOB_DONE)),
                name="job_keyed",
            ),
            models.Index(
                fields=["conversation", "created_at"],
                condition=Q(conversation__isnull=False),
                name="job_of_conversation",
            ),
            GinIndex(
                SearchVector("goal", "outcome", config="simple"),
                condition=Q(conversation__isnull=False),
                name="job_said",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["conversation"],
                condition=Q(kind="chat") & ~Q(state__in=sorted(JOB_DONE)),
                name="job_one_turn_at_a_time",
            ),
            models.CheckConstraint(
                condition=~Q(kind="chat") | Q(conversation__isnull=False), name="job_turn_of_a_conversation"
            ),
            models.UniqueConstraint(
                fields=["owner", "idempotency_key"], condition=~Q(idempotency_key=""), name="job_idempotency_key"
            ),
            models.UniqueConstraint(
                fields=["tenant", "concurrency_key"],
                condition=Q(holds_key=True) & ~Q(state__in=sorted(JOB_DONE)),
                nulls_distinct=False,
                name="job_concurrency_key",
            ),
            models.CheckConstraint(condition=Q(priority__gte=0, priority__lte=9), name="job_priority_range"),
            models.CheckConstraint(condition=Q(state__in=JobState.values), name="job_state_known"),
        ]

    def __str__(self) -> str:
        return self.goal[:80]

    def get_absolute_url(self) -> str:
        return f"/jobs/{self.id}/"

    @property
    def led(self) -> bool:
        """Does an agent decide on its steps, turn by turn?"""
        return self.kind in {self.Kind.GOAL, self.Kind.CHAT}

    @property
    def done(self) -> bool:
        return self.finished_at is not None
