"""Steps and their attempts. The step row is the truth and the outbox: a Celery message only hints at it."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce

from agents.models.job import Job
from agents.models.tenant import Tenant
from agents.states import STEP_SENT, StepState
from audit.ids import uuid7


class Step(models.Model):
    """One call of one tool. Legal moves of `state`: `agents.states.STEP_MOVES`.

    `attempt` is the fence: a claim increments it, and only the holder of (id, running, attempt) settles.
    """

    class Kind(models.TextChoices):
        CALL = "call"  # one call of its tool
        MAP = "map"  # fans out into chunks, and ends when they have ended; no worker runs it
        CHUNK = "chunk"  # calls its tool once for each of its items
        JOB = "job"  # a sub-workflow or a sub-goal: ends when its child job has ended; no worker runs it

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=5, choices=Kind.choices, default=Kind.CALL)
    # its unique constraints begin with the job; references that most steps lack are indexed where there is one
    job = models.ForeignKey(Job, on_delete=models.PROTECT, related_name="steps", db_index=False)
    parent = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="chunks",
        db_index=False,
        help_text="a chunk's map step",
    )
    seq = models.PositiveIntegerField(help_text="order of appearance in the job")
    key = models.CharField(max_length=80)
    tool = models.CharField(max_length=120)
    schema_version = models.PositiveIntegerField(default=1)
    arguments = models.JSONField(default=dict)
    needs = ArrayField(models.CharField(max_length=80), default=list, help_text="keys of steps that come first")
    needs_success = models.BooleanField(
        default=True, help_text="False: it is enough that they have ended (a model step reads failures too)"
    )
    template = models.JSONField(
        null=True, blank=True, help_text="arguments with ${{ CEL }}: resolved when the step is released"
    )
    condition = models.TextField(blank=True, help_text="CEL over inputs and results: false skips the step")
    spec = models.JSONField(null=True, blank=True, help_text="of a map or job step: what it fans out into")
    retry = models.JSONField(
        null=True, blank=True, help_text="max_attempts, delay_s, backoff, max_delay_s, on: error classes"
    )
    timeout_s = models.PositiveIntegerField(null=True, blank=True, help_text="wall clock of one attempt")
    fallbacks = models.JSONField(default=list, blank=True, help_text="[{tool, arguments}], tried in order")
    fallback_used = models.PositiveSmallIntegerField(default=0)
    compensation = models.JSONField(null=True, blank=True, help_text="{tool, arguments} that undoes it")
    compensates = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="compensated_by", db_index=False
    )
    workspace_of = models.UUIDField(null=True, blank=True, help_text="as the job's")
    reason = models.TextField(blank=True, help_text="why the agent wants it, in its words: untrusted")
    tool_call_id = models.CharField(max_length=120, blank=True, help_text="the model's id of this call")
    proposed_by = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="proposed", db_index=False
    )
    effect = models.CharField(max_length=10)
    queue = models.CharField(max_length=40)
    risk = models.CharField(max_length=6, default="low")
    opinion = models.JSONField(
        null=True,
        blank=True,
        help_text="{level, reasons}: a model's word on its risk, which may raise it, never lower it",
    )
    state = models.CharField(max_length=16, choices=StepState.choices, default=StepState.PENDING)
    cancel_requested = models.BooleanField(default=False)
    # policy and approval
    decision = models.JSONField(null=True, help_text="effect, policy, rule, reason, as evaluated")
    approval_id = models.UUIDField(null=True, help_text="the approval request, by id")
    permit_id = models.UUIDField(null=True)
    target_state = models.JSONField(default=dict)
    preview_digest = models.CharField(max_length=64, blank=True)
    # running
    attempt = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField(default=3)
    claimed_by = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True)
    not_before = models.DateTimeField(null=True, help_text="a retry's delay: a row, never a countdown")
    dispatched_at = models.DateTimeField(null=True)
    dispatches = models.PositiveIntegerField(default=0)
    # its place among those that wait for release: the job's, set by the trigger agents_step_lane
    tenant = models.ForeignKey(
        Tenant,
        null=True,
        blank=True,
        editable=False,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    priority = models.SmallIntegerField(null=True, blank=True, editable=False)
    waits_for = models.CharField(
        max_length=100,
        blank=True,
        default="",
        db_default="",
        help_text="the rate limit for which it waits until not_before",
    )
    # the end
    result = models.JSONField(null=True, help_text="ok, summary, data, text, exit_code, truncated_bytes, sandbox")
    labels = ArrayField(
        models.CharField(max_length=20),
        null=True,
        blank=True,
        help_text="what it brought in or did (`tools.labels`): untrusted, private, egress; null: as its call says",
    )
    provenance = models.JSONField(
        null=True,
        blank=True,
        help_text="of its call, where policies asked: planned, tainted: [{at, value, source}] (`agents.provenance`)",
    )
    error_class = models.CharField(
        max_length=10, blank=True, help_text="transient, rate_limit, bad_input, denied, timeout, resource, bug, lost"
    )
    error_code = models.CharField(max_length=60, blank=True)
    error = models.TextField(blank=True)
    losses = models.PositiveSmallIntegerField(default=0, help_text="attempts that took their worker with them")
    tokens = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    ready_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["job", "seq"]
        constraints = [
            models.UniqueConstraint(fields=["job", "key"], name="step_key"),
            models.UniqueConstraint(fields=["job", "seq"], name="step_seq"),
            models.CheckConstraint(condition=Q(state__in=StepState.values), name="step_state_known"),
            models.CheckConstraint(
                condition=~Q(state="running") | Q(lease_until__isnull=False), name="running_step_has_a_lease"
            ),
        ]
        indexes = [
            models.Index(fields=["parent"], condition=Q(parent__isnull=False), name="step_parent"),
            models.Index(fields=["compensates"], condition=Q(compensates__isnull=False), name="step_compensates"),
            models.Index(fields=["proposed_by"], condition=Q(proposed_by__isnull=False), name="step_proposed_by"),
            models.Index(fields=["lease_until"], condition=Q(state="running"), name="step_running"),
            models.Index(fields=["started_at"], condition=Q(state="in_doubt"), name="step_in_doubt"),
            models.Index(fields=["dispatched_at"], condition=Q(state__in=sorted(STEP_SENT)), name="step_sent"),
            models.Index(fields=["ready_at"], condition=Q(kind="job", state="pending"), name="step_child_awaited"),
            models.Index(
                F("queue"),
                Coalesce("tenant", 0),
                Coalesce("priority", 5),
                Coalesce("not_before", "ready_at", "created_at"),
                F("id"),
                condition=Q(dispatched_at__isnull=True)
                & (Q(state__in=["queued", "ready"]) | Q(state="in_doubt") & ~Q(error_code="needs_person")),
                name="step_lanes",
            ),
            models.Index(fields=["waits_for", "not_before"], condition=~Q(waits_for=""), name="step_limited"),
        ]

    def __str__(self) -> str:
        return f"{self.seq}. {self.tool}"


class Attempt(models.Model):
    """One claim of a step by a worker: where it ran and how it ended."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    step = models.ForeignKey(Step, on_delete=models.PROTECT, related_name="attempts", db_index=False)
    number = models.PositiveIntegerField()
    queue = models.CharField(max_length=40, help_text="the queue whose message this worker consumed")
    worker = models.CharField(max_length=200)
    task_id = models.CharField(max_length=80, blank=True, help_text="the Celery task's id")
    claimed_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    outcome = models.CharField(
        max_length=16, blank=True, help_text="succeeded, failed, lost, late, requeued, cancelled"
    )
    error_code = models.CharField(max_length=60, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["step", "number"]
        constraints = [models.UniqueConstraint(fields=["step", "number"], name="attempt_number")]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.step_id}"
