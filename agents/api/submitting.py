"""What all requests that start a job share: the key that makes them count once, and the answer."""

from collections.abc import Callable
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from agents.api.views import View
from agents.models import Job
from agents.tokens import makers_of

_PARAMETERS = [
    OpenApiParameter(
        "Idempotency-Key",
        str,
        OpenApiParameter.HEADER,
        description="1 to 200 visible ASCII characters. The same key with the same body gives the same job.",
    ),
    OpenApiParameter("Location", OpenApiTypes.URI, OpenApiParameter.HEADER, response=[201]),
    OpenApiParameter(
        "Idempotency-Replayed",
        str,
        OpenApiParameter.HEADER,
        response=[200],
        description="`true`: the job was created by an earlier request.",
    ),
    OpenApiParameter("Retry-After", int, OpenApiParameter.HEADER, response=[429], description="Seconds to wait."),
]


def submits(operation_id: str, *, tag: str, request: Any, answer: Any, conflict: str = "") -> Callable[[Any], Any]:
    """`extend_schema` of an operation that starts a job. conflict: when it gives 409."""
    return extend_schema(
        operation_id=operation_id,
        tags=[tag],
        request=request,
        parameters=_PARAMETERS,
        responses={
            201: answer,
            200: OpenApiResponse(answer, description="This Idempotency-Key made this job before."),
            **({409: OpenApiResponse(description=conflict)} if conflict else {}),
            422: OpenApiResponse(description="The Idempotency-Key was used with another body."),
            429: OpenApiResponse(description="Too many jobs are unfinished."),
        },
    )


def key_of(request: Request) -> str:
    """The key of idempotency, or "". Raises ValidationError where it is empty; `agents.once` says what else is wrong."""
    key = request.headers.get("Idempotency-Key", "")
    if "Idempotency-Key" in request.headers and not key:
        raise ValidationError({"Idempotency-Key": ["Must not be empty."]})
    return key


def makers(request: Request) -> dict[str, str]:
    """Who else had a part in the request: the maker of its token."""
    return makers_of(request.auth)


def submitted(view: View, serializer: Any, job: Job, new: bool) -> Response:
    """201 with the job's address, or 200 where the key had made it before."""
    data = serializer(job, context=view.get_serializer_context()).data
    if not new:
        return Response(data, headers={"Idempotency-Replayed": "true"})
    address = reverse("job", kwargs={"job_id": job.pk}, request=view.request)
    return Response(data, status=201, headers={"Location": address})
