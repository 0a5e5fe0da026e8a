"""What a job keeps: list, read, download, take away."""

from typing import ClassVar
from uuid import UUID

from django.http import StreamingHttpResponse
from django.urls import reverse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agents.api.requests import check_query, empty_body
from agents.api.views import WRITE, View, person
from agents.artifacts import artifacts_of, download, take_away, visible_artifact
from agents.selectors import visible_job
from audit.api.pagination import ByTime
from tools.models import Artifact


class ArtifactSerializer(serializers.ModelSerializer[Artifact]):
    """A file that a step kept. `redacted`: secrets that were taken out; `purged_at`: set once it is no longer kept."""

    job = serializers.UUIDField(source="workspace_id")
    step = serializers.CharField(source="subject", help_text="The step's id.")
    content_url = serializers.SerializerMethodField()

    class Meta:
        model = Artifact
        fields = [
            *("id", "job", "step", "name", "path", "content_type", "size_bytes", "sha256", "redacted", "created_at"),
            *("purged_at", "purged_why", "content_url"),
        ]
        read_only_fields = fields

    @extend_schema_field(OpenApiTypes.URI)
    def get_content_url(self, one: Artifact) -> str | None:
        if one.purged_at is not None:
            return None
        path = reverse("artifact-content", args=[one.workspace_id, one.pk])
        return str(self.context["request"].build_absolute_uri(path))


class ArtifactList(View):
    serializer_class = ArtifactSerializer
    pagination_class = ByTime
    queryset = Artifact.objects.none()

    @extend_schema(operation_id="list_artifacts", tags=["artifacts"])
    def get(self, request: Request, job_id: UUID) -> Response:
        """The files that the job's steps kept, newest first."""
        check_query(request, {"cursor", "limit"})
        page = self.paginate_queryset(artifacts_of(visible_job(request.user, job_id)))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)


class ArtifactDetail(View):
    serializer_class = ArtifactSerializer
    scopes: ClassVar[dict[str, str]] = {"DELETE": WRITE}

    @extend_schema(operation_id="get_artifact", tags=["artifacts"])
    def get(self, request: Request, job_id: UUID, artifact_id: UUID) -> Response:
        """One artifact, without its content."""
        check_query(request, ())
        return Response(self.get_serializer(visible_artifact(request.user, job_id, artifact_id)).data)

    @extend_schema(
        operation_id="delete_artifact",
        tags=["artifacts"],
        request=None,
        responses={204: OpenApiResponse(description="It is no longer kept.")},
    )
    def delete(self, request: Request, job_id: UUID, artifact_id: UUID) -> Response:
        """Takes the content away before its time; the record of it stays."""
        empty_body(request)
        take_away(person(request), job_id, artifact_id, now=timezone.now())
        return Response(status=204)


class ArtifactContent(View):
    @extend_schema(
        operation_id="download_artifact",
        tags=["artifacts"],
        responses={
            (200, "application/octet-stream"): OpenApiTypes.BINARY,
            410: OpenApiResponse(description="It is no longer kept (`gone`)."),
        },
    )
    def get(self, request: Request, job_id: UUID, artifact_id: UUID) -> StreamingHttpResponse:
        """The content, as a file to save."""
        check_query(request, ())
        return download(visible_artifact(request.user, job_id, artifact_id))
