"""A job's steps and its feed."""

from typing import ClassVar
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from agents import feed
from agents.api.requests import body, check_query, whole_number
from agents.api.serializers import EventsSerializer, StepDetailSerializer, StepSerializer
from agents.api.views import WRITE, View, person
from agents.engine.answers import by_person
from agents.engine.control.edit import edit_step
from agents.models import Step
from agents.payload import EditInput, ResolveInput, parse
from agents.selectors import changeable_job, settleable_step, visible_job, visible_step
from audit.actor import Actor
from audit.api.pagination import BySeq

MAX_EVENTS = 1000
_MAX_SEQ = 2**31 - 1


class StepList(View):
    serializer_class = StepSerializer
    pagination_class = BySeq
    queryset = Step.objects.none()

    @extend_schema(operation_id="list_steps", tags=["steps"])
    def get(self, request: Request, job_id: UUID) -> Response:
        """The job's steps, in order of appearance."""
        check_query(request, {"cursor", "limit"})
        job = visible_job(request.user, job_id)
        page = self.paginate_queryset(Step.objects.filter(job=job).select_related("compensates", "parent"))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)


class StepDetail(View):
    serializer_class = StepDetailSerializer
    scopes: ClassVar[dict[str, str]] = {"PATCH": WRITE}

    @extend_schema(operation_id="get_step", tags=["steps"])
    def get(self, request: Request, job_id: UUID, key: str) -> Response:
        """One step: arguments, the policies' decision, result, attempts."""
        check_query(request, ())
        return Response(self.get_serializer(visible_step(request.user, job_id, key)).data)

    @extend_schema(
        operation_id="edit_step",
        tags=["steps"],
        request=EditInput,
        responses={200: StepDetailSerializer, 409: OpenApiResponse(description="The step has been let through.")},
    )
    def patch(self, request: Request, job_id: UUID, key: str) -> Response:
        """Gives a step that has not been let through other arguments. It is decided on anew, what people were asked
        about the old ones is void, and whoever edits cannot approve it."""
        given = parse(EditInput, body(request))
        changeable_job(request.user, job_id)
        step = visible_step(request.user, job_id, key)
        edit_step(step.pk, given.arguments, by=person(request), now=timezone.now())
        return Response(self.get_serializer(visible_step(request.user, job_id, key)).data)


class StepResolve(View):
    serializer_class = StepDetailSerializer

    @extend_schema(
        operation_id="resolve_step",
        tags=["steps"],
        request=ResolveInput,
        responses={
            200: StepDetailSerializer,
            409: OpenApiResponse(description="The step is not in doubt, or its probe has not answered yet."),
        },
    )
    def post(self, request: Request, job_id: UUID, key: str) -> Response:
        """Says whether a step in doubt happened: its worker was lost, and its tool's probe could not tell."""
        found = parse(ResolveInput, body(request))
        step = settleable_step(request.user, job_id=job_id, key=key)
        who = Actor.user(request.user.pk)
        by_person(step.pk, happened=found.happened, by=who, now=timezone.now(), reason=found.reason.strip())
        step.refresh_from_db()
        return Response(self.get_serializer(step).data)


class EventList(View):
    serializer_class = EventsSerializer

    @extend_schema(
        operation_id="list_events",
        tags=["events"],
        parameters=[
            OpenApiParameter("after", int, description="The last `seq` that you have; 0 from the beginning."),
            OpenApiParameter("limit", int, description=f"1 to {MAX_EVENTS}."),
        ],
        responses={200: EventsSerializer},
    )
    def get(self, request: Request, job_id: UUID) -> Response:
        """The job's feed: state changes and output, by number. Poll with `after` until `done`."""
        check_query(request, {"after", "limit"})
        after = whole_number(request, "after", default=0, low=0, high=_MAX_SEQ)
        limit = whole_number(request, "limit", default=500, low=1, high=MAX_EVENTS)
        # the job first: entries that commit afterwards make it not done, never missing
        job = visible_job(request.user, job_id)
        entries = feed.entries(job.pk, after=after, limit=limit)
        last = entries[-1].seq if entries else after
        found = {"results": entries, "after": last, "done": job.done and last >= job.feed_seq}
        return Response(self.get_serializer(found).data)
