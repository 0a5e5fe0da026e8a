"""Requests by REST: list, read, approve, deny, answer."""

from datetime import datetime
from typing import Any, ClassVar, cast
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.api.errors import LengthRequired, Refused
from approvals.api.serializers import (
    AnswerSerializer,
    ApprovalDetailSerializer,
    ApprovalSerializer,
    ApproveSerializer,
    DenySerializer,
    Strict,
)
from approvals.decisions import decide
from approvals.errors import DecisionError
from approvals.models import ApprovalRequest, Vote
from approvals.selectors import inbox, lines, visible, visible_request
from approvals.web.second_factor import at as given_at
from audit.api.pagination import ByTime
from audit.api.permissions import HasScope

READ, DECIDE = "approvals:read", "approvals:decide"
TAGS = ["approvals"]
REFUSALS = {
    403: OpenApiResponse(description="You may not decide this request: it is your own, or it asks others."),
    409: OpenApiResponse(description="The request is decided or expired, or you have voted."),
}


class View(GenericAPIView):
    """A session, or a token with the scope that the method needs."""

    queryset = ApprovalRequest.objects.none()

    def get_permissions(self) -> list[BasePermission]:
        scope = DECIDE if self.request is not None and self.request.method == "POST" else READ
        return [IsAuthenticated(), HasScope(scope)()]


class ApprovalList(View):
    serializer_class = ApprovalSerializer
    pagination_class = ByTime

    @extend_schema(
        operation_id="list_approvals",
        tags=TAGS,
        parameters=[
            OpenApiParameter(
                "state", str, many=True, enum=ApprovalRequest.State.values, description="May be given more than once."
            ),
            OpenApiParameter("parent", str, description="The id of the job that asks."),
            OpenApiParameter("needs", str, enum=["me"], description="Only what you may decide now."),
        ],
    )
    def get(self, request: Request) -> Response:
        """The requests that you may see, newest first."""
        check_query(request, {"state", "parent", "needs", "cursor", "limit"})
        page = self.paginate_queryset(lines(_filtered(request)))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)


class ApprovalDetail(View):
    serializer_class = ApprovalDetailSerializer

    @extend_schema(operation_id="get_approval", tags=TAGS)
    def get(self, request: Request, request_id: UUID) -> Response:
        """One request, with the exact call. Reading never decides."""
        check_query(request, set())
        return Response(self.get_serializer(found_for(request, request_id)).data)


class _Decide(View):
    serializer_class = ApprovalDetailSerializer
    verdict: ClassVar[Vote.Verdict]
    takes: ClassVar[type[Strict]]
    words: ClassVar[str] = "reason"

    def _post(self, request: Request, request_id: UUID) -> Response:
        check_query(request, set())
        found = found_for(request, request_id)
        given = self.takes(data=body(request))
        given.is_valid(raise_exception=True)
        try:
            decide(
                request_id=found.pk,
                by=cast(User, request.user),
                verdict=self.verdict,
                reason=given.validated_data[self.words],
                channel="api",
                now=timezone.now(),
                second_factor_at=second_factor(request),
                behind=makers(request),
            )
        except DecisionError as error:
            raise Refused(error) from error
        return Response(self.get_serializer(found_for(request, request_id)).data)


class Approve(_Decide):
    verdict = Vote.Verdict.APPROVE
    takes = ApproveSerializer

    @extend_schema(
        operation_id="approve_approval",
        tags=TAGS,
        request=ApproveSerializer,
        responses={200: ApprovalDetailSerializer, **REFUSALS},
    )
    def post(self, request: Request, request_id: UUID) -> Response:
        """Votes for exactly this call. It runs when enough people have."""
        return self._post(request, request_id)


class Deny(_Decide):
    verdict = Vote.Verdict.DENY
    takes = DenySerializer

    @extend_schema(
        operation_id="deny_approval",
        tags=TAGS,
        request=DenySerializer,
        responses={200: ApprovalDetailSerializer, **REFUSALS},
    )
    def post(self, request: Request, request_id: UUID) -> Response:
        """Refuses the call; one denial is enough. The agent receives the reason."""
        return self._post(request, request_id)


class Answer(_Decide):
    verdict = Vote.Verdict.ANSWER
    takes = AnswerSerializer
    words = "answer"

    @extend_schema(
        operation_id="answer_approval",
        tags=TAGS,
        request=AnswerSerializer,
        responses={200: ApprovalDetailSerializer, **REFUSALS},
    )
    def post(self, request: Request, request_id: UUID) -> Response:
        """Answers a question of kind `question`. An answer permits nothing."""
        return self._post(request, request_id)


def second_factor(request: Request) -> datetime | None:
    """When the person of this session last gave a second factor; a token never has one."""
    return None if request.auth is not None else given_at(request._request)


def makers(request: Request) -> list[int]:
    """Who made the token by which this request comes, for another user."""
    made_by = getattr(request.auth, "created_by_id", None)
    return [] if made_by is None else [int(made_by)]


def found_for(request: Request, request_id: UUID) -> ApprovalRequest:
    try:
        return visible_request(request.user, request_id)
    except DecisionError as error:
        raise Refused(error) from error


def _filtered(request: Request) -> QuerySet[ApprovalRequest]:
    """Raises ValidationError."""
    given = request.query_params
    needs = given.get("needs")
    if needs not in {None, "me"}:
        raise ValidationError({"needs": ["Must be `me`."]})
    found = inbox(request.user) if needs else visible(request.user)
    states = given.getlist("state")
    if unknown := [state for state in states if state not in ApprovalRequest.State.values]:
        raise ValidationError({"state": [f"{unknown[0]!r} is not one of {', '.join(ApprovalRequest.State.values)}."]})
    if states:
        found = found.filter(state__in=states)
    parent = given.get("parent")
    if parent is not None:
        if "\x00" in parent:
            raise ValidationError({"parent": ["Is not an id."]})
        found = found.filter(parent_id=parent)
    return found


def check_query(request: Request, known: set[str]) -> None:
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        raise ValidationError({name: ["Unknown query parameter."] for name in unknown})


def body(request: Request) -> Any:
    if request.META.get("HTTP_TRANSFER_ENCODING") and not request.META.get("CONTENT_LENGTH"):
        raise LengthRequired()
    return {} if isinstance(request.data, QueryDict) else request.data
