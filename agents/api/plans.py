"""Plans of a job: every version, and another one by a person before it runs."""

from typing import Annotated, Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from pydantic import BaseModel, ConfigDict, Field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agents.api.requests import body, check_query
from agents.api.views import View, person
from agents.models import Plan
from agents.payload import parse
from agents.planning import editing
from agents.planning.editing import asked_by, versions_of
from agents.selectors import changeable_job, visible_job
from audit.api.pagination import BySeq


class PlanStepInput(BaseModel):
    """A step of a plan, as a person wants it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: Annotated[str, Field(max_length=40, description="Unique within the job.")]
    tool: Annotated[str, Field(max_length=120, description="One that the agent may use.")]
    arguments: Annotated[
        dict[str, Any], Field(description="As the tool's schema says; texts may hold `${{ CEL }}`.")
    ] = {}
    needs: Annotated[list[str], Field(max_length=40, description="Keys of steps that come first.")] = []
    success_check: Annotated[str, Field(max_length=2000, description="CEL that must be true afterwards.")] = ""
    reason: Annotated[str, Field(max_length=2000, description="Shown to approvers.")] = ""
    instead_of: Annotated[str, Field(max_length=80, description="The earlier step that this one replaces.")] = ""


class PlanInput(BaseModel):
    """What is to run instead of a plan that waits for a person."""

    model_config = ConfigDict(extra="forbid", strict=True)

    plan: Annotated[int, Field(ge=1, description="The number of the plan that you saw.")]
    steps: Annotated[list[PlanStepInput], Field(min_length=1, max_length=40)]
    note: Annotated[str, Field(max_length=2000, description="Why.")] = ""


class PlanSerializer(serializers.ModelSerializer[Plan]):
    """A version. `forecast`: what policy said of each step when it was written, by key."""

    author = serializers.SerializerMethodField(help_text="The person who wrote it; empty: the agent.")
    prompt = serializers.SerializerMethodField(
        help_text="The version of a prompt that the agent was asked by, such as `plan@2`; empty: a person wrote it, or the "
        "server's own text was used."
    )
    steps = serializers.ListField(child=serializers.DictField(), read_only=True)
    forecast = serializers.DictField(read_only=True)

    class Meta:
        model = Plan
        fields = [
            "number",
            "round",
            "state",
            "origin",
            "author",
            "prompt",
            "note",
            "steps",
            "forecast",
            "before_untrusted",
            "sha256",
            "created_at",
        ]
        read_only_fields = fields

    @extend_schema_field(str)
    def get_author(self, plan: Plan) -> str:
        return plan.author.get_username() if plan.author else ""

    @extend_schema_field(str)
    def get_prompt(self, plan: Plan) -> str:
        return str(asked_by(plan) or "")


class ByNumber(BySeq):
    ordering = "number"


class PlanList(View):
    serializer_class = PlanSerializer
    pagination_class = ByNumber
    queryset = Plan.objects.none()

    @extend_schema(operation_id="list_plans", tags=["jobs"])
    def get(self, request: Request, job_id: UUID) -> Response:
        """The versions of the job's plan, the first one first."""
        check_query(request, {"cursor", "limit"})
        plans = versions_of(visible_job(request.user, job_id))
        page = self.paginate_queryset(plans)
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(
        operation_id="change_plan",
        tags=["jobs"],
        request=PlanInput,
        responses={
            201: PlanSerializer,
            409: OpenApiResponse(description="The plan does not wait for a person, or is another one by now."),
        },
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """Writes the next version of a plan that waits for a person; answer its question with `run` to let it begin."""
        given = parse(PlanInput, body(request))
        job = changeable_job(request.user, job_id)
        steps = [one.model_dump() for one in given.steps]
        made = editing.change(job.pk, given.plan, steps, note=given.note, by=person(request), now=timezone.now())
        return Response(self.get_serializer(made).data, status=201)
