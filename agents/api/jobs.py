"""Jobs: submit, list, read, pause, resume, cancel, retry, fork, share."""

import hashlib
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from agents.api.requests import body, check_query, empty_body
from agents.api.serializers import JobDetailSerializer, JobSerializer, SharedSerializer
from agents.api.submitting import key_of, makers, submits, submitted
from agents.api.views import View, person
from agents.engine.cancel import cancel_job
from agents.engine.control.fork import fork_job
from agents.engine.control.pause import pause_job, resume_job
from agents.engine.control.retry import retry_job
from agents.errors import AlreadyDone
from agents.models import Job
from agents.payload import ForkInput, JobInput, RetryInput, ShareInput, parse
from agents.selectors import changeable_job, of_kinds, visible_job, visible_jobs
from agents.sharing import share_job
from agents.states import JOB_DONE, JobState
from agents.submit import submit
from audit.actor import Actor
from audit.api.pagination import ByTime

_FILTERS = [
    OpenApiParameter(
        "kind",
        str,
        many=True,
        enum=Job.Kind.values,
        description="May be given more than once. Without it: all but `chat`, the turns of conversations.",
    ),
    OpenApiParameter("state", str, many=True, enum=JobState.values, description="May be given more than once."),
    OpenApiParameter("repository", str, description="A repository's name."),
    OpenApiParameter("parent", UUID, description="Only jobs that a step of this one started."),
    OpenApiParameter("label", str, many=True, description="`name` or `name:value`; all given must hold."),
]
_LOCATION = OpenApiParameter("Location", OpenApiTypes.URI, OpenApiParameter.HEADER, response=[201])


class JobList(View):
    serializer_class = JobSerializer
    pagination_class = ByTime
    queryset = Job.objects.none()

    @extend_schema(operation_id="list_jobs", parameters=_FILTERS, tags=["jobs"])
    def get(self, request: Request) -> Response:
        """The jobs that you may see, newest first."""
        check_query(request, {"kind", "state", "repository", "parent", "label", "cursor", "limit"})
        page = self.paginate_queryset(_filtered(visible_jobs(request.user), request))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @submits("submit_job", tag="jobs", request=JobInput, answer=JobDetailSerializer)
    def post(self, request: Request) -> Response:
        """Submits a job: a `goal` for an agent, or `steps` that run as given."""
        check_query(request, ())
        job, new = submit(
            body(request),
            user=person(request),
            idempotency_key=key_of(request),
            took_part=makers(request),
            now=timezone.now(),
        )
        return submitted(self, JobDetailSerializer, job, new)


class JobDetail(View):
    serializer_class = JobDetailSerializer

    @extend_schema(
        operation_id="get_job",
        tags=["jobs"],
        parameters=[
            OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="An ETag seen before."),
            OpenApiParameter("ETag", str, OpenApiParameter.HEADER, response=[200, 304]),
        ],
        responses={200: JobDetailSerializer, 304: OpenApiResponse(description="Nothing has changed.")},
    )
    def get(self, request: Request, job_id: UUID) -> Response:
        """One job."""
        check_query(request, ())
        job = visible_job(request.user, job_id)
        etag = _etag(job)
        if etag in [tag.strip() for tag in request.headers.get("If-None-Match", "").split(",")]:
            return Response(status=304, headers={"ETag": etag})
        return Response(self.get_serializer(job).data, headers={"ETag": etag})


class JobCancel(View):
    serializer_class = JobDetailSerializer

    @extend_schema(
        operation_id="cancel_job",
        tags=["jobs"],
        request=None,
        responses={200: JobDetailSerializer, 409: OpenApiResponse(description="The job has ended already.")},
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """Cancels what has not started and asks what runs to stop. Cancelling twice changes nothing."""
        empty_body(request)
        job = changeable_job(request.user, job_id)
        if job.state in JOB_DONE and job.state != JobState.CANCELLED:
            raise AlreadyDone(f"The job has {job.state} already.")
        job = cancel_job(job.pk, by=Actor.user(request.user.pk), now=timezone.now())
        return Response(self.get_serializer(job).data)


class JobPause(View):
    serializer_class = JobDetailSerializer

    @extend_schema(
        operation_id="pause_job",
        tags=["jobs"],
        request=None,
        responses={200: JobDetailSerializer, 409: OpenApiResponse(description="It has ended, or is being cancelled.")},
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """What runs goes on to its end; nothing else begins. Pausing twice changes nothing."""
        empty_body(request)
        job = changeable_job(request.user, job_id)
        job = pause_job(job.pk, by=Actor.user(request.user.pk), now=timezone.now())
        return Response(self.get_serializer(job).data)


class JobResume(View):
    serializer_class = JobDetailSerializer

    @extend_schema(
        operation_id="resume_job",
        tags=["jobs"],
        request=None,
        responses={200: JobDetailSerializer, 409: OpenApiResponse(description="The job has ended.")},
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """Lets a paused job go on from where it stood. A job that is not paused stays as it is."""
        empty_body(request)
        job = changeable_job(request.user, job_id)
        job = resume_job(job.pk, by=Actor.user(request.user.pk), now=timezone.now())
        return Response(self.get_serializer(job).data)


class JobRetry(View):
    serializer_class = JobDetailSerializer

    @extend_schema(
        operation_id="retry_job",
        tags=["jobs"],
        request=RetryInput,
        responses={
            200: JobDetailSerializer,
            409: OpenApiResponse(
                description="It has not ended, or has nothing to retry (`not_now`, `already_done`); or a step in it may "
                "have happened (`may_have_happened`)."
            ),
        },
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """Sets a failed or cancelled job going again: what did not succeed is decided on anew and runs again."""
        given = parse(RetryInput, body(request) or {})
        job = changeable_job(request.user, job_id)
        job = retry_job(
            job.pk,
            by=Actor.user(request.user.pk),
            now=timezone.now(),
            from_step=given.from_step,
            did_not_happen=given.did_not_happen,
        )
        return Response(self.get_serializer(job).data)


class JobFork(View):
    serializer_class = JobDetailSerializer

    @extend_schema(
        operation_id="fork_job",
        tags=["jobs"],
        request=ForkInput,
        parameters=[_LOCATION],
        responses={
            201: JobDetailSerializer,
            409: OpenApiResponse(
                description="The workspace as it was before that step cannot be had; `detail` says why."
            ),
            429: OpenApiResponse(description="Too many jobs are unfinished."),
        },
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """Makes a new job of yours that begins at a step of this one, with the results of the steps before it and the
        workspace as it was then."""
        given = parse(ForkInput, body(request))
        seen = visible_job(request.user, job_id)
        made = fork_job(seen.pk, at=given.step, by=person(request), now=timezone.now(), arguments=given.arguments)
        data = self.get_serializer(made).data
        return Response(data, status=201, headers={"Location": data["url"]})


class JobShare(View):
    serializer_class = SharedSerializer

    @extend_schema(operation_id="share_job", tags=["jobs"], request=ShareInput, responses={200: SharedSerializer})
    def post(self, request: Request, job_id: UUID) -> Response:
        """Lets a user or a group see this job."""
        payload = body(request)
        job = visible_job(request.user, job_id)
        receiver = share_job(job, payload, by=person(request))
        return Response(SharedSerializer(SharedSerializer.of(job, receiver)).data)


def _filtered(jobs: QuerySet[Job], request: Request) -> QuerySet[Job]:
    """Raises ValidationError."""
    wrong: dict[str, Any] = {}
    kinds, states = request.query_params.getlist("kind"), request.query_params.getlist("state")
    for name, given, known in (("kind", kinds, Job.Kind.values), ("state", states, JobState.values)):
        if not set(given) <= set(known):
            wrong[name] = [f"Must be one of {', '.join(known)}."]
    if any("\x00" in value for values in request.query_params.lists() for value in values[1]):
        wrong["label"] = ["Must not hold a NUL character."]
    parent = request.query_params.get("parent")
    if parent is not None and _uuid(parent) is None:
        wrong["parent"] = ["Must be the id of a job."]
    if wrong:
        raise ValidationError(wrong)
    jobs = of_kinds(jobs, kinds)
    if parent is not None:
        jobs = jobs.filter(parent=_uuid(parent))
    if states:
        jobs = jobs.filter(state__in=states)
    if "repository" in request.query_params:
        jobs = jobs.filter(repository__name=request.query_params["repository"])
    for label in request.query_params.getlist("label"):
        name, colon, value = label.partition(":")
        jobs = jobs.filter(labels__contains={name: value}) if colon else jobs.filter(labels__has_key=name)
    return jobs


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _etag(job: Job) -> str:
    """Weak: every change of a job or a step numbers a feed entry."""
    facts = f"{job.pk}/{job.feed_seq}/{job.state}/{job.cancel_requested}/{job.tokens_used}"
    return f'W/"{hashlib.sha256(facts.encode()).hexdigest()[:24]}"'
