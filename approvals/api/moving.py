"""What else people do with a request: edit it, ask back, take an approval back, break the glass, decide several."""

from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

from django.contrib.auth.models import User
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from approvals import batch, comments, editing, glass, taking_back
from approvals.api.errors import Refused
from approvals.api.serializers import (
    AnswerSerializer,
    ApprovalDetailSerializer,
    ApprovalSerializer,
    AskSerializer,
    BatchResultSerializer,
    BatchSerializer,
    BreakGlassSerializer,
    CommentSerializer,
    EditSerializer,
    NothingSerializer,
    Strict,
)
from approvals.api.views import REFUSALS, TAGS, View, body, check_query, found_for, makers, second_factor
from approvals.errors import DecisionError, NotEligible
from approvals.models import ApprovalRequest, Comment

CHANNEL = "api"


class Acting(View):
    """An action on one request that the user can see."""

    serializer_class: type[serializers.BaseSerializer[Any]] = ApprovalDetailSerializer

    def act(self, request: Request, request_id: UUID, takes: type[Strict], do: Callable[..., Any]) -> Any:
        """Calls `do(given, found, user)`. Raises Refused, ValidationError."""
        check_query(request, set())
        found = found_for(request, request_id)
        given = takes(data=body(request))
        given.is_valid(raise_exception=True)
        try:
            part = {found.requester_id, *found.excluded_ids}
            if part & set(makers(request)):
                raise NotEligible("Who made this token took part in this request, so it decides nothing here.")
            return do(given.validated_data, found, cast(User, request.user))
        except DecisionError as error:
            raise Refused(error) from error

    def detail(self, request: Request, request_id: UUID) -> Response:
        return Response(ApprovalDetailSerializer(found_for(request, request_id), context={"request": request}).data)


class Edit(Acting):
    @extend_schema(
        operation_id="edit_approval",
        tags=TAGS,
        request=EditSerializer,
        responses={200: ApprovalDetailSerializer, **REFUSALS},
    )
    def post(self, request: Request, request_id: UUID) -> Response:
        """Gives the call other arguments: this request is void, and the policies decide on the new call."""
        self.act(
            request,
            request_id,
            EditSerializer,
            lambda given, found, user: editing.edit(
                request_id=found.pk,
                by=user,
                arguments=given["arguments"],
                reason=given["reason"],
                channel=CHANNEL,
                now=timezone.now(),
            ),
        )
        return self.detail(request, request_id)


class Ask(Acting):
    serializer_class = CommentSerializer

    @extend_schema(
        operation_id="ask_about_approval",
        tags=TAGS,
        request=AskSerializer,
        responses={201: CommentSerializer, **REFUSALS},
    )
    def post(self, request: Request, request_id: UUID) -> Response:
        """Asks back. The agent answers in a step of its own, or the requester; the clock goes on."""
        asked = self.act(
            request,
            request_id,
            AskSerializer,
            lambda given, found, user: comments.ask_back(
                request_id=found.pk, by=user, text=given["text"], channel=CHANNEL, now=timezone.now()
            ),
        )
        return Response(CommentSerializer(asked).data, status=201)


class AnswerComment(View):
    serializer_class = CommentSerializer

    @extend_schema(
        operation_id="answer_comment",
        tags=TAGS,
        request=AnswerSerializer,
        responses={200: CommentSerializer, **REFUSALS},
    )
    def post(self, request: Request, request_id: UUID, comment_id: UUID) -> Response:
        """Answers what an approver asked back: for the requester of the approval."""
        check_query(request, set())
        found = found_for(request, request_id)
        given = AnswerSerializer(data=body(request))
        given.is_valid(raise_exception=True)
        try:
            asked = Comment.objects.filter(pk=comment_id, request=found).first()
            done = comments.answer(
                comment_id=asked.pk if asked else UUID(int=0),
                text=given.validated_data["answer"],
                answered_by=cast(User, request.user),
                now=timezone.now(),
            )
        except DecisionError as error:
            raise Refused(error) from error
        return Response(CommentSerializer(done).data)


class TakeBack(Acting):
    @extend_schema(
        operation_id="take_back_approval",
        tags=TAGS,
        request=NothingSerializer,
        responses={200: ApprovalDetailSerializer, **REFUSALS},
    )
    def post(self, request: Request, request_id: UUID) -> Response:
        """Withdraws your approval, until what was approved has begun."""
        self.act(
            request,
            request_id,
            NothingSerializer,
            lambda given, found, user: taking_back.take_back(
                request_id=found.pk, by=user, channel=CHANNEL, now=timezone.now()
            ),
        )
        return self.detail(request, request_id)


class BreakTheGlass(Acting):
    @extend_schema(
        operation_id="break_glass",
        tags=TAGS,
        request=BreakGlassSerializer,
        responses={200: ApprovalDetailSerializer, **REFUSALS},
    )
    def post(self, request: Request, request_id: UUID) -> Response:
        """Approves in an emergency, outside the rules. Takes a permission, and somebody else reviews it."""
        self.act(
            request,
            request_id,
            BreakGlassSerializer,
            lambda given, found, user: glass.break_glass(
                request_id=found.pk,
                by=user,
                reason=given["reason"],
                channel=CHANNEL,
                now=timezone.now(),
                second_factor_at=second_factor(request),
            ),
        )
        return self.detail(request, request_id)


class Alike(View):
    serializer_class = ApprovalSerializer

    @extend_schema(
        operation_id="list_alike_approvals", tags=TAGS, responses={200: ApprovalSerializer(many=True)}, filters=False
    )
    def get(self, request: Request, request_id: UUID) -> Response:
        """The pending requests of low risk that you may decide together with this one, itself first."""
        check_query(request, set())
        found = batch.alike(found_for(request, request_id), cast(User, request.user), timezone.now())
        return Response(self.get_serializer(found, many=True).data)


class Batch(View):
    serializer_class = BatchResultSerializer

    @extend_schema(
        operation_id="decide_alike_approvals",
        tags=TAGS,
        request=BatchSerializer,
        responses={200: BatchResultSerializer(many=True), **REFUSALS},
    )
    def post(self, request: Request) -> Response:
        """Decides exactly these requests, which are alike and of low risk; says of each what became of it."""
        check_query(request, set())
        given = BatchSerializer(data=body(request))
        given.is_valid(raise_exception=True)
        ids = given.validated_data["requests"]
        try:
            for one in ids:
                found_for(request, one)
            results = batch.decide_all(
                request_ids=ids,
                by=cast(User, request.user),
                verdict=given.validated_data["verdict"],
                reason=given.validated_data["reason"],
                channel=batch.CHANNEL,
                now=timezone.now(),
                second_factor_at=second_factor(request),
                behind=makers(request),
            )
        except DecisionError as error:
            raise Refused(error) from error
        return Response([_told(found, error) for found, error in results])


def _told(found: ApprovalRequest, error: DecisionError | None) -> dict[str, Any]:
    return {
        "id": found.pk,
        "state": found.state,
        "code": error.code if error else None,
        "detail": error.message if error else None,
    }
