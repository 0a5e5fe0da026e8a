"""Prompts, evaluations and feedback."""

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from pydantic import BaseModel, ConfigDict, Field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agents.api.requests import body, check_query, empty_body
from agents.api.views import View, person
from agents.evaluation import running, table
from agents.models import Evaluation, Prompt, Trial
from agents.payload import parse
from agents.prompts import feedback, versions
from agents.selectors import visible_job, visible_step
from audit.api.pagination import ByName


class FeedbackInput(BaseModel):
    """What you think of a job, or of one of its steps; another one takes its place, and null takes it back."""

    model_config = ConfigDict(extra="forbid", strict=True)

    thumb: Literal["up", "down"] | None
    comment: Annotated[str, Field(max_length=feedback.COMMENT_MAX)] = ""
    step: Annotated[str | None, Field(max_length=80, description="Its key; the whole job where there is none.")] = None


class EvaluationInput(BaseModel):
    """A suite of cases, and who tries them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    suite: Annotated[str, Field(max_length=300_000, description="YAML or JSON.")]
    arms: Annotated[
        list[Annotated[str, Field(max_length=120)]],
        Field(
            min_length=1, max_length=8, description="`agent:NAME` or `prompt:NAME@VERSION`, the first to compare with."
        ),
    ]
    repeats: Annotated[int, Field(ge=1, le=20, description="How often each case is tried.")] = 1


class FeedbackSerializer(serializers.Serializer[Any]):
    """Thumbs on a job and its steps."""

    up = serializers.IntegerField()
    down = serializers.IntegerField()
    mine = serializers.ChoiceField(choices=["up", "down"], allow_null=True)


class PromptSerializer(serializers.ModelSerializer[Prompt]):
    """A prompt. in_force: the version that a job gets which names none; candidate: of which `candidate_share` percent of
    those jobs get that one."""

    owner = serializers.SlugRelatedField[Any](slug_field="username", read_only=True)
    candidate = serializers.SlugRelatedField[Any](slug_field="number", read_only=True)
    in_force = serializers.SerializerMethodField()

    class Meta:
        model = Prompt
        fields = ("name", "owner", "in_force", "candidate", "candidate_share", "created_at")
        read_only_fields = fields

    def get_in_force(self, prompt: Prompt) -> int | None:
        found = versions.in_force(prompt)
        return found.number if found is not None else None


class TrialSerializer(serializers.ModelSerializer[Trial]):
    """One case tried once. ok is null until it was judged, and stays so where it was cancelled, as `why` says."""

    class Meta:
        model = Trial
        fields = ("case", "arm", "repeat", "job", "ok", "why", "tokens", "cost", "latency_ms", "scripted")
        read_only_fields = fields


class ArmSerializer(serializers.Serializer[Any]):
    """One arm: success with its interval of 95 %, as shares of 1; cost (US dollars) and tokens are means a trial,
    latency_ms is the median."""

    arm = serializers.CharField()
    judged = serializers.IntegerField()
    passed = serializers.IntegerField()
    waiting = serializers.IntegerField()
    dropped = serializers.IntegerField(help_text="Cancelled, and never judged.")
    success = serializers.FloatField()
    low = serializers.FloatField()
    high = serializers.FloatField()
    cost = serializers.DecimalField(max_digits=14, decimal_places=6)
    tokens = serializers.FloatField()
    latency_ms = serializers.FloatField()


class EvaluationSerializer(serializers.ModelSerializer[Evaluation]):
    """An evaluation; finished_at is null while trials are to be judged."""

    results = serializers.SerializerMethodField()
    trials = TrialSerializer(many=True, read_only=True)

    class Meta:
        model = Evaluation
        fields = ("id", "suite", "sha256", "arms", "repeats", "created_at", "finished_at", "results", "trials")
        read_only_fields = fields

    @extend_schema_field(ArmSerializer(many=True))
    def get_results(self, evaluation: Evaluation) -> Any:
        return ArmSerializer(table.lines(list(evaluation.trials.all()), evaluation.arms), many=True).data


class JobFeedback(View):
    serializer_class = FeedbackSerializer

    @extend_schema(
        operation_id="give_feedback", tags=["jobs"], request=FeedbackInput, responses={200: FeedbackSerializer}
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """Says whether a job, or a step of it, was good work."""
        given = parse(FeedbackInput, body(request))
        job, user = visible_job(request.user, job_id), person(request)
        step = visible_step(user, job_id, given.step) if given.step is not None else None
        made = feedback.give(
            job, by=user, thumb=given.thumb or "", comment=given.comment.strip(), step=step, now=timezone.now()
        )
        rows = list(job.feedback.values_list("thumb", flat=True))
        told = {"up": rows.count("up"), "down": rows.count("down"), "mine": made.thumb if made else None}
        return Response(self.get_serializer(told).data)


class PromptList(View):
    serializer_class = PromptSerializer
    pagination_class = ByName
    queryset = Prompt.objects.none()

    @extend_schema(operation_id="list_prompts", tags=["evaluation"])
    def get(self, request: Request) -> Response:
        """The prompts that steps may ask by."""
        check_query(request, {"cursor", "limit"})
        page = self.paginate_queryset(versions.prompts(person(request)))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)


class EvaluationList(View):
    serializer_class = EvaluationSerializer

    @extend_schema(
        operation_id="start_evaluation",
        tags=["evaluation"],
        request=EvaluationInput,
        responses={201: OpenApiResponse(EvaluationSerializer)},
    )
    def post(self, request: Request) -> Response:
        """Tries the cases of a suite: each trial is a job of yours."""
        given = parse(EvaluationInput, body(request))
        now = timezone.now()
        made = running.start(given.suite, given.arms, repeats=given.repeats, by=person(request), now=now)
        running.go_on(made, now=now)
        return Response(self.get_serializer(made).data, status=201)


class EvaluationDetail(View):
    serializer_class = EvaluationSerializer
    scopes: ClassVar[dict[str, str]] = {}

    @extend_schema(operation_id="get_evaluation", tags=["evaluation"])
    def get(self, request: Request, evaluation_id: UUID) -> Response:
        """How far it is, and what came of it."""
        check_query(request, ())
        found = running.evaluation_of(person(request), evaluation_id)
        return Response(self.get_serializer(found).data)


class EvaluationCancel(View):
    serializer_class = EvaluationSerializer

    @extend_schema(
        operation_id="cancel_evaluation",
        tags=["evaluation"],
        request=None,
        responses={200: EvaluationSerializer, 409: OpenApiResponse(description="It has ended already.")},
    )
    def post(self, request: Request, evaluation_id: UUID) -> Response:
        """Starts no further trial and cancels the jobs of those that run; what was judged stays."""
        empty_body(request)
        found = running.evaluation_of(person(request), evaluation_id)
        running.cancel(found, by=person(request), now=timezone.now())
        return Response(self.get_serializer(found).data)
