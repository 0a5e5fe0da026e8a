"""What the API answers."""

from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group, User
from django.db.models import Count
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.reverse import reverse

from agents.engine import keys
from agents.engine.failures import outlook
from agents.models import Agent, ApiToken, Attempt, FeedEntry, Job, ModelEndpoint, Repository, Step
from agents.selectors import visible_jobs
from agents.states import JobState, StepState
from tools.spec import Effect, Risk, Tool

EFFECTS = [str(one) for one in Effect]
RISKS = [str(one) for one in Risk]


class JobSerializer(serializers.ModelSerializer[Job]):
    """A job as lists show it. `url` is this resource; `page` is for people."""

    url = serializers.SerializerMethodField()
    page = serializers.SerializerMethodField()
    agent = serializers.CharField(source="agent.name", default=None, allow_null=True, read_only=True)
    repository = serializers.CharField(source="repository.name", default=None, allow_null=True, read_only=True)
    owner = serializers.CharField(source="owner.username", read_only=True)
    state = serializers.ChoiceField(choices=JobState.choices, read_only=True)
    labels = serializers.DictField(child=serializers.CharField(), read_only=True)
    tenant = serializers.CharField(source="tenant.name", default=None, allow_null=True, read_only=True)

    class Meta:
        model = Job
        fields = [
            "id",
            "url",
            "page",
            "kind",
            "goal",
            "state",
            "outcome",
            "outputs",
            "cancel_requested",
            "forked_from",
            "parent",
            "depth",
            "trigger",
            "conversation",
            "agent",
            "repository",
            "owner",
            "priority",
            "labels",
            "tenant",
            "concurrency_key",
            "max_steps",
            "max_tokens",
            "tokens_used",
            "max_cost",
            "cost_used",
            "created_at",
            "starts_at",
            "deadline_at",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields

    def get_url(self, job: Job) -> str:
        return reverse("job", kwargs={"job_id": job.pk}, request=self.context.get("request"))

    def get_page(self, job: Job) -> str:
        request = self.context.get("request")
        path = job.get_absolute_url()
        return request.build_absolute_uri(path) if request is not None else path


class JobDetailSerializer(JobSerializer):
    """A job, with how many of its steps are in which state, and the feed's latest number. `workflow`: as `ship@3`;
    `grant`: lists of tool patterns, every one of which must cover a call; `parent_step`: the key of the step that started
    it; `children`: the jobs that its own steps started."""

    parent_step = serializers.CharField(source="parent_step.key", default=None, allow_null=True, read_only=True)
    children = serializers.SerializerMethodField()
    grant = serializers.ListField(child=serializers.ListField(child=serializers.CharField()), read_only=True)
    steps = serializers.SerializerMethodField()
    waits_for_job = serializers.SerializerMethodField()
    workflow = serializers.SerializerMethodField()
    inputs = serializers.JSONField(read_only=True)
    outputs = serializers.JSONField(allow_null=True, read_only=True)

    class Meta(JobSerializer.Meta):
        fields = [
            *JobSerializer.Meta.fields,
            "parent_step",
            "children",
            "grant",
            "workflow",
            "inputs",
            "outputs",
            "steps",
            "waits_for_job",
            "feed_seq",
        ]
        read_only_fields = fields

    def get_children(self, job: Job) -> list[UUID]:
        """Those that the reader may see, in the order of their birth."""
        request = self.context.get("request")
        jobs = visible_jobs(request.user) if request is not None else Job.objects.all()
        return list(jobs.filter(parent=job).order_by("created_at").values_list("pk", flat=True))

    def get_workflow(self, job: Job) -> str | None:
        return str(job.workflow_version) if job.workflow_version_id else None

    def get_waits_for_job(self, job: Job) -> UUID | None:
        """The job that has its concurrency key; null where it waits for none."""
        found = keys.holder(job)
        return found.pk if found else None

    def get_steps(self, job: Job) -> dict[str, int]:
        rows = Step.objects.filter(job=job).values("state").annotate(count=Count("pk")).order_by("state")
        return {row["state"]: row["count"] for row in rows}


class StepSerializer(serializers.ModelSerializer[Step]):
    """A step as lists show it."""

    url = serializers.SerializerMethodField()
    state = serializers.ChoiceField(choices=StepState.choices, read_only=True)
    effect = serializers.ChoiceField(choices=EFFECTS, read_only=True)
    risk = serializers.ChoiceField(choices=RISKS, read_only=True)
    compensates = serializers.SlugRelatedField(  # type: ignore[var-annotated]
        slug_field="key", read_only=True, help_text="the key of the step that this one undoes"
    )
    parent = serializers.SlugRelatedField(  # type: ignore[assignment,var-annotated]
        slug_field="key", read_only=True, help_text="the key of the map of which this is a chunk"
    )
    child_job = serializers.SerializerMethodField(help_text="the job that this step started and waits for")
    next = serializers.SerializerMethodField(help_text="what follows from a failure, in words")

    class Meta:
        model = Step
        fields = [
            "id",
            "url",
            "seq",
            "key",
            "kind",
            "parent",
            "child_job",
            "tool",
            "queue",
            "effect",
            "risk",
            "state",
            "needs",
            "reason",
            "attempt",
            "max_attempts",
            "not_before",
            "waits_for",
            "approval_id",
            "not_before",
            "condition",
            "fallback_used",
            "compensates",
            "error_class",
            "next",
            "error_code",
            "error",
            "created_at",
            "ready_at",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields

    def get_child_job(self, step: Step) -> UUID | None:
        child = (step.spec or {}).get("child") if step.kind == Step.Kind.JOB else None
        return UUID(child) if child else None

    def get_next(self, step: Step) -> str:
        return outlook(step)

    def get_url(self, step: Step) -> str:
        kwargs = {"job_id": step.job_id, "key": step.key}
        return reverse("step", kwargs=kwargs, request=self.context.get("request"))


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    """One run of a step: which worker took it from which queue, and how it ended."""

    class Meta:
        model = Attempt
        fields = ["number", "queue", "worker", "task_id", "claimed_at", "ended_at", "outcome", "error_code", "error"]
        read_only_fields = fields


class DecisionSerializer(serializers.Serializer[Any]):
    """What the policies said of the call."""

    effect = serializers.CharField()
    policy = serializers.CharField(allow_blank=True)
    rule = serializers.CharField(allow_blank=True)
    reason = serializers.CharField(allow_blank=True)


class ResultSerializer(serializers.Serializer[Any]):
    """What the tool gave back; `text` is bounded, and untrusted like everything that a tool read."""

    ok = serializers.BooleanField()
    summary = serializers.CharField()
    data = serializers.JSONField()  # type: ignore[assignment]
    text = serializers.CharField(allow_blank=True)
    exit_code = serializers.IntegerField(allow_null=True)
    truncated_bytes = serializers.IntegerField()
    sandbox = serializers.JSONField()


class StepDetailSerializer(StepSerializer):
    """A step with its arguments, the policies' decision, its result and every attempt."""

    arguments = serializers.JSONField(read_only=True)
    decision = DecisionSerializer(allow_null=True, read_only=True)
    result = ResultSerializer(allow_null=True, read_only=True)
    attempts = AttemptSerializer(many=True, read_only=True)

    class Meta(StepSerializer.Meta):
        fields = [
            *StepSerializer.Meta.fields,
            "schema_version",
            "arguments",
            "template",
            "spec",
            "retry",
            "timeout_s",
            "fallbacks",
            "compensation",
            "decision",
            "labels",
            "provenance",
            "result",
            "attempts",
        ]
        read_only_fields = fields


class EventSerializer(serializers.ModelSerializer[FeedEntry]):
    """One entry of the feed. `kind` and `data`: `job` {state}, `step` {state, key, tool, …}, `log` {stream, text, attempt},
    `token` {text}, `note` {text}."""

    step = serializers.UUIDField(source="step_id", allow_null=True, read_only=True)
    kind = serializers.CharField(read_only=True)
    data = serializers.JSONField(read_only=True)  # type: ignore[assignment]

    class Meta:
        model = FeedEntry
        fields = ["seq", "at", "kind", "step", "data"]
        read_only_fields = fields


class EventsSerializer(serializers.Serializer[Any]):
    """`after`: hand it in to get what comes next; `done`: the job has ended and nothing comes after `results`."""

    results = EventSerializer(many=True)
    after = serializers.IntegerField()
    done = serializers.BooleanField()


class ToolSerializer(serializers.Serializer[Tool]):
    """A tool; `schema` is JSON Schema 2020-12 of its arguments. `offered`: plans and models may name it."""

    name = serializers.CharField()
    summary = serializers.CharField()
    effect = serializers.ChoiceField(choices=EFFECTS)
    queue = serializers.CharField()
    schema_version = serializers.IntegerField()
    schema = serializers.JSONField()
    offered = serializers.BooleanField()
    asks_person = serializers.BooleanField()


class ToolsSerializer(serializers.Serializer[Any]):
    results = ToolSerializer(many=True)


class AgentSerializer(serializers.ModelSerializer[Agent]):
    route = serializers.SlugRelatedField[Any](slug_field="name", read_only=True, allow_null=True)

    class Meta:
        model = Agent
        fields = ["name", "description", "tools", "model", "route", "max_steps", "max_tokens", "max_cost"]
        read_only_fields = fields


class ModelEndpointSerializer(serializers.ModelSerializer[ModelEndpoint]):
    """Prices are US dollars a million tokens. Keys and addresses stay on the server."""

    class Meta:
        model = ModelEndpoint
        fields = [
            "name",
            "model",
            "capabilities",
            "context_tokens",
            "output_tokens",
            "prompt_price",
            "cached_price",
            "completion_price",
            "private",
            "scripted",
            "enabled",
            "open_until",
        ]
        read_only_fields = fields


class RepositorySerializer(serializers.ModelSerializer[Repository]):
    owner = serializers.CharField(source="owner.username", read_only=True)

    class Meta:
        model = Repository
        fields = ["id", "name", "url", "default_branch", "owner", "created_at"]
        read_only_fields = fields


class SharedSerializer(serializers.Serializer[Any]):
    """Who may see the job now."""

    job = serializers.UUIDField()
    user = serializers.CharField(allow_null=True)
    group = serializers.CharField(allow_null=True)

    @classmethod
    def of(cls, job: Job, receiver: User | Group) -> dict[str, Any]:
        return {
            "job": job.pk,
            "user": receiver.username if isinstance(receiver, User) else None,
            "group": receiver.name if isinstance(receiver, Group) else None,
        }


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    """The token of this request. Its secret is never shown again."""

    scopes = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = ApiToken
        fields = ["name", "hint", "scopes", "expires_at"]
        read_only_fields = fields


class MeSerializer(serializers.ModelSerializer[User]):
    """Who the server takes you for."""

    groups: serializers.SlugRelatedField[Group] = serializers.SlugRelatedField(
        slug_field="name", many=True, read_only=True
    )
    token = serializers.SerializerMethodField()

    class Meta:
        model = User
        fields = ["id", "username", "is_staff", "is_superuser", "groups", "token"]
        read_only_fields = fields

    @extend_schema_field(TokenSerializer(allow_null=True))
    def get_token(self, user: User) -> dict[str, Any] | None:
        auth = self.context["request"].auth
        return dict(TokenSerializer(auth).data) if isinstance(auth, ApiToken) else None
