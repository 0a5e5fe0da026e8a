"""Grants, deputies and reviews by REST."""

from dataclasses import asdict
from typing import cast
from uuid import UUID

from django.contrib.auth.models import Group, User
from django.db.models import Q
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from approvals import deputies, glass, granting
from approvals.api.errors import Refused
from approvals.api.moving import Acting
from approvals.api.serializers import (
    DelegateSerializer,
    DelegationSerializer,
    GiveSerializer,
    GlassSerializer,
    GrantSerializer,
    NothingSerializer,
    ProposalSerializer,
    ReviewSerializer,
)
from approvals.api.views import REFUSALS, TAGS, View, body, check_query, found_for, second_factor
from approvals.errors import DecisionError, InvalidGrant, NotFound
from approvals.models import Delegation, Grant


class GrantOf(Acting):
    serializer_class = GrantSerializer

    @extend_schema(operation_id="propose_grant", tags=TAGS, responses={200: ProposalSerializer, **REFUSALS})
    def get(self, request: Request, request_id: UUID) -> Response:
        """What a grant with this approval would cover."""
        check_query(request, set())
        found = found_for(request, request_id)
        proposal = granting.propose(found, now=timezone.now())
        if proposal is None:
            raise Refused(InvalidGrant(granting.why_not(found)))
        return Response(asdict(proposal))

    @extend_schema(
        operation_id="give_grant", tags=TAGS, request=GiveSerializer, responses={201: GrantSerializer, **REFUSALS}
    )
    def post(self, request: Request, request_id: UUID) -> Response:
        """Approves this call, and calls like it in the same job for a while. Never for high risk."""
        given_now = self.act(
            request,
            request_id,
            GiveSerializer,
            lambda given, found, user: granting.give(
                request_id=found.pk,
                by=user,
                minutes=given["minutes"],
                uses=given["uses"],
                matcher=given["matcher"],
                reason=given["reason"],
                channel=granting.CHANNEL,
                now=timezone.now(),
                second_factor_at=second_factor(request),
            ),
        )
        return Response(GrantSerializer(given_now).data, status=201)


class Grants(View):
    serializer_class = GrantSerializer

    @extend_schema(operation_id="list_grants", tags=TAGS, responses={200: GrantSerializer(many=True)}, filters=False)
    def get(self, request: Request) -> Response:
        """The grants in force that you may revoke."""
        check_query(request, set())
        user = cast(User, request.user)
        return Response(
            GrantSerializer(
                [one for one in granting.in_force(timezone.now())[:200] if granting.may_revoke(one, user)], many=True
            ).data
        )


class RevokeGrant(View):
    serializer_class = GrantSerializer

    @extend_schema(
        operation_id="revoke_grant", tags=TAGS, request=NothingSerializer, responses={200: GrantSerializer, **REFUSALS}
    )
    def post(self, request: Request, grant_id: UUID) -> Response:
        """Ends a grant at once."""
        _nothing(request)
        user = cast(User, request.user)
        try:
            found = Grant.objects.filter(pk=grant_id).select_related("from_request").first()
            if found is None or not granting.may_revoke(found, user):
                raise NotFound("There is no such grant, or it is not for you.")
            done = granting.revoke(grant_id=grant_id, by=user, now=timezone.now())
        except DecisionError as error:
            raise Refused(error) from error
        return Response(GrantSerializer(done).data)


class Delegations(View):
    serializer_class = DelegationSerializer

    @extend_schema(
        operation_id="list_delegations", tags=TAGS, responses={200: DelegationSerializer(many=True)}, filters=False
    )
    def get(self, request: Request) -> Response:
        """Who decides in your place, and in whose place you decide."""
        check_query(request, set())
        user = cast(User, request.user)
        mine = Delegation.objects.filter(Q(person=user) | Q(deputy=user)).select_related("person", "deputy")
        return Response(DelegationSerializer(mine.prefetch_related("groups")[:200], many=True).data)

    @extend_schema(
        operation_id="delegate",
        tags=TAGS,
        request=DelegateSerializer,
        responses={201: DelegationSerializer, **REFUSALS},
    )
    def post(self, request: Request) -> Response:
        """Lets somebody decide in your place from one time to another."""
        check_query(request, set())
        form = DelegateSerializer(data=body(request))
        form.is_valid(raise_exception=True)
        given = form.validated_data
        deputy = User.objects.filter(username=given["deputy"], is_active=True).first()
        if deputy is None:
            raise ValidationError({"deputy": ["There is no active user of that name."]})
        groups = list(Group.objects.filter(name__in=given["groups"]))
        if unknown := set(given["groups"]) - {group.name for group in groups}:
            raise ValidationError({"groups": [f"There is no group {min(unknown)!r}."]})
        try:
            done = deputies.delegate(
                person=cast(User, request.user),
                deputy=deputy,
                starts_at=given["starts_at"],
                ends_at=given["ends_at"],
                groups=groups,
                reason=given["reason"],
                now=timezone.now(),
            )
        except DecisionError as error:
            raise Refused(error) from error
        return Response(DelegationSerializer(done).data, status=201)


class RevokeDelegation(View):
    serializer_class = DelegationSerializer

    @extend_schema(
        operation_id="revoke_delegation",
        tags=TAGS,
        request=NothingSerializer,
        responses={200: DelegationSerializer, **REFUSALS},
    )
    def post(self, request: Request, delegation_id: UUID) -> Response:
        """Ends a delegation at once; votes given by it count for nothing any more where nothing has run."""
        _nothing(request)
        try:
            done = deputies.revoke(delegation_id=delegation_id, by=cast(User, request.user), now=timezone.now())
        except DecisionError as error:
            raise Refused(error) from error
        return Response(DelegationSerializer(done).data)


class Glasses(View):
    serializer_class = GlassSerializer

    @extend_schema(
        operation_id="list_glass_reviews", tags=TAGS, responses={200: GlassSerializer(many=True)}, filters=False
    )
    def get(self, request: Request) -> Response:
        """The approvals in an emergency that wait for your review, the first due first."""
        check_query(request, set())
        return Response(GlassSerializer(glass.to_review(cast(User, request.user))[:200], many=True).data)


class ReviewGlass(View):
    serializer_class = GlassSerializer

    @extend_schema(
        operation_id="review_glass", tags=TAGS, request=ReviewSerializer, responses={200: GlassSerializer, **REFUSALS}
    )
    def post(self, request: Request, glass_id: UUID) -> Response:
        """Says whether an approval in an emergency was justified."""
        check_query(request, set())
        form = ReviewSerializer(data=body(request))
        form.is_valid(raise_exception=True)
        try:
            done = glass.review(
                glass_id=glass_id,
                by=cast(User, request.user),
                verdict=form.validated_data["verdict"],
                words=form.validated_data["words"],
                now=timezone.now(),
            )
        except DecisionError as error:
            raise Refused(error) from error
        return Response(GlassSerializer(done).data)


def _nothing(request: Request) -> None:
    check_query(request, set())
    NothingSerializer(data=body(request)).is_valid(raise_exception=True)
