"""Workflows: list, read, check, draft, compare, publish, retire."""

import json
from typing import Any

from django.db.models import Max, Q
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from agents.api.requests import body, check_query, empty_body, whole_number
from agents.api.views import View, person
from agents.errors import InvalidInput
from agents.models import Workflow, WorkflowVersion
from agents.payload import WorkflowInput, parse
from agents.workflows import diff, versions
from agents.workflows.schema import inputs_schema
from audit.api.pagination import ByName

_PUBLISHED = Q(versions__status=WorkflowVersion.Status.PUBLISHED)
_CONFLICT = OpenApiResponse(description="It is no draft, or not published.")


class WorkflowSerializer(serializers.ModelSerializer[Workflow]):
    """A workflow. `published`: the number that a job gets which names none; null where none is published."""

    url = serializers.SerializerMethodField()
    page = serializers.SerializerMethodField()
    owner = serializers.CharField(source="owner.username", default=None, allow_null=True, read_only=True)
    published = serializers.IntegerField(allow_null=True, read_only=True)
    latest = serializers.IntegerField(allow_null=True, read_only=True)

    class Meta:
        model = Workflow
        fields = ["name", "url", "page", "owner", "published", "latest", "created_at"]
        read_only_fields = fields

    def get_url(self, workflow: Workflow) -> str:
        return reverse("workflow", kwargs={"name": workflow.name}, request=self.context.get("request"))

    def get_page(self, workflow: Workflow) -> str:
        request = self.context.get("request")
        path = workflow.get_absolute_url()
        return request.build_absolute_uri(path) if request is not None else path


class VersionSerializer(serializers.ModelSerializer[WorkflowVersion]):
    """A version as lists show it."""

    workflow = serializers.CharField(source="workflow.name", read_only=True)
    url = serializers.SerializerMethodField()
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True, read_only=True)
    published_by = serializers.CharField(source="published_by.username", default=None, allow_null=True, read_only=True)

    class Meta:
        model = WorkflowVersion
        fields = [
            "workflow",
            "number",
            "url",
            "status",
            "sha256",
            "note",
            "created_by",
            "created_at",
            "published_by",
            "published_at",
        ]
        read_only_fields = fields

    def get_url(self, version: WorkflowVersion) -> str:
        kwargs = {"name": version.workflow.name, "number": version.number}
        return reverse("workflow-version", kwargs=kwargs, request=self.context.get("request"))


class VersionDetailSerializer(VersionSerializer):
    """A version with its text, the text as data, and the whole JSON Schema of its inputs."""

    definition = serializers.JSONField(read_only=True)
    inputs_schema = serializers.SerializerMethodField()

    class Meta(VersionSerializer.Meta):
        fields = [*VersionSerializer.Meta.fields, "source", "definition", "inputs_schema"]
        read_only_fields = fields

    def get_inputs_schema(self, version: WorkflowVersion) -> dict[str, Any]:
        return inputs_schema(version.definition or {})


class WorkflowDetailSerializer(WorkflowSerializer):
    """A workflow with its versions, newest first."""

    versions = serializers.SerializerMethodField()

    class Meta(WorkflowSerializer.Meta):
        fields = [*WorkflowSerializer.Meta.fields, "versions"]
        read_only_fields = fields

    def get_versions(self, workflow: Workflow) -> list[dict[str, Any]]:
        rows = workflow.versions.select_related("workflow", "created_by", "published_by")[:100]
        return [dict(one) for one in VersionSerializer(rows, many=True, context=self.context).data]


class ProblemSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField()
    column = serializers.IntegerField()
    path = serializers.CharField(allow_blank=True)
    message = serializers.CharField()


class CheckedSerializer(serializers.Serializer[Any]):
    """Every problem of a definition, in the order of its text."""

    valid = serializers.BooleanField()
    problems = ProblemSerializer(many=True)


class ChangeSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=["added", "removed", "changed"])
    step = serializers.CharField(allow_blank=True)
    field = serializers.CharField(allow_blank=True)
    was = serializers.CharField(allow_blank=True)
    now = serializers.CharField(allow_blank=True)


class DiffSerializer(serializers.Serializer[Any]):
    """`changes` by step and field; `text` as `diff -u` writes it."""

    changes = ChangeSerializer(many=True)
    text = serializers.CharField(allow_blank=True)


class WorkflowList(View):
    serializer_class = WorkflowSerializer
    pagination_class = ByName
    queryset = Workflow.objects.none()

    @extend_schema(operation_id="list_workflows", tags=["workflows"])
    def get(self, request: Request) -> Response:
        """The workflows that jobs may run."""
        check_query(request, {"cursor", "limit"})
        page = self.paginate_queryset(_numbered(versions.workflows(request.user)))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(
        operation_id="save_workflow",
        tags=["workflows"],
        request=WorkflowInput,
        responses={201: VersionDetailSerializer},
    )
    def post(self, request: Request) -> Response:
        """Saves a draft of the workflow that the definition names; a name that is new makes a workflow."""
        check_query(request, ())
        given = parse(WorkflowInput, body(request))
        draft = versions.save_draft(_source(given), note=given.note, by=person(request), now=timezone.now())
        return Response(VersionDetailSerializer(draft, context=self.get_serializer_context()).data, status=201)


class WorkflowDetail(View):
    serializer_class = WorkflowDetailSerializer

    @extend_schema(operation_id="get_workflow", tags=["workflows"], responses={200: WorkflowDetailSerializer})
    def get(self, request: Request, name: str) -> Response:
        """One workflow and its versions."""
        check_query(request, ())
        found = versions.workflow_of(request.user, name)
        return Response(self.get_serializer(_numbered(Workflow.objects.filter(pk=found.pk)).get()).data)


class WorkflowValidate(WorkflowDetail):
    """Beside checking, this is the address of the workflow that is called `validate`."""

    @extend_schema(exclude=True)
    def get(self, request: Request, name: str = "validate") -> Response:
        return super().get(request, name)

    @extend_schema(
        operation_id="validate_workflow", tags=["workflows"], request=WorkflowInput, responses={200: CheckedSerializer}
    )
    def post(self, request: Request) -> Response:
        """Checks a definition and saves nothing: every problem, with its line and column."""
        check_query(request, ())
        found = versions.checked(_source(parse(WorkflowInput, body(request)))).problems
        return Response({"valid": not found, "problems": [one.as_json() for one in found]})


class VersionList(View):
    serializer_class = VersionSerializer
    queryset = WorkflowVersion.objects.none()

    @extend_schema(
        operation_id="list_workflow_versions", tags=["workflows"], responses={200: VersionSerializer(many=True)}
    )
    def get(self, request: Request, name: str) -> Response:
        """The workflow's versions, newest first."""
        check_query(request, ())
        found = versions.workflow_of(request.user, name)
        rows = found.versions.select_related("workflow", "created_by", "published_by")
        return Response(self.get_serializer(rows, many=True).data)


class VersionDetail(View):
    serializer_class = VersionDetailSerializer

    @extend_schema(operation_id="get_workflow_version", tags=["workflows"])
    def get(self, request: Request, name: str, number: int) -> Response:
        """One version, with its text and the schema of its inputs."""
        check_query(request, ())
        return Response(self.get_serializer(_version(request, name, number)).data)


class VersionPublish(View):
    serializer_class = VersionDetailSerializer

    @extend_schema(
        operation_id="publish_workflow_version",
        tags=["workflows"],
        request=None,
        responses={200: VersionDetailSerializer, 409: _CONFLICT},
    )
    def post(self, request: Request, name: str, number: int) -> Response:
        """Publishes a draft: it never changes again, and jobs may run on it."""
        empty_body(request)
        version = _version(request, name, number)
        return Response(self.get_serializer(versions.publish(version.pk, by=person(request), now=timezone.now())).data)


class VersionRetire(View):
    serializer_class = VersionDetailSerializer

    @extend_schema(
        operation_id="retire_workflow_version",
        tags=["workflows"],
        request=None,
        responses={200: VersionDetailSerializer, 409: _CONFLICT},
    )
    def post(self, request: Request, name: str, number: int) -> Response:
        """Retires a published version: no new job starts on it, and those that run end on it."""
        empty_body(request)
        version = _version(request, name, number)
        return Response(self.get_serializer(versions.retire(version.pk, by=person(request))).data)


class WorkflowDiff(View):
    serializer_class = DiffSerializer

    @extend_schema(
        operation_id="diff_workflow",
        tags=["workflows"],
        parameters=[
            OpenApiParameter("from", int, required=True, description="A version's number."),
            OpenApiParameter("to", int, required=True, description="A version's number."),
        ],
    )
    def get(self, request: Request, name: str) -> Response:
        """What changed between two versions."""
        check_query(request, {"from", "to"})
        numbers = [whole_number(request, one, default=0, low=1, high=2**31 - 1) for one in ("from", "to")]
        for field, number in zip(("from", "to"), numbers, strict=True):
            if not number:
                raise InvalidInput("This parameter is required.", field=field)
        old, new = (_version(request, name, number) for number in numbers)
        changes = [one.as_json() for one in diff.between(old, new)]
        return Response({"changes": changes, "text": diff.unified(old, new)})


def _numbered(of: Any) -> Any:
    return of.annotate(published=Max("versions__number", filter=_PUBLISHED), latest=Max("versions__number"))


def _version(request: Request, name: str, number: int) -> WorkflowVersion:
    return versions.version_of(versions.workflow_of(request.user, name), number)


def _source(given: WorkflowInput) -> str:
    """The text that was given, or the given data as JSON."""
    if (given.source is None) == (given.definition is None):
        raise InvalidInput("Give the source as text, or the definition as data.", field="source")
    if given.source is not None:
        return given.source
    return json.dumps(given.definition, indent=2, ensure_ascii=False)
