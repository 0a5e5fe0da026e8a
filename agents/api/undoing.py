"""Ending the undoing of a job."""

from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from agents.api.requests import empty_body
from agents.api.serializers import JobDetailSerializer
from agents.api.views import View
from agents.engine.cancel import stop_undoing
from agents.selectors import changeable_job
from audit.actor import Actor


class JobStopUndoing(View):
    serializer_class = JobDetailSerializer

    @extend_schema(
        operation_id="stop_undoing_job",
        tags=["jobs"],
        request=None,
        responses={200: JobDetailSerializer, 409: OpenApiResponse(description="It undoes nothing.")},
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """No more of what the job did is undone: what runs is asked to stop, the job fails and says what is left."""
        empty_body(request)
        job = changeable_job(request.user, job_id)
        job = stop_undoing(job.pk, by=Actor.user(request.user.pk), now=timezone.now())
        return Response(self.get_serializer(job).data)
