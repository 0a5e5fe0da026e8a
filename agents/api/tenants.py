"""Tenants: whose share of the workers a job uses. Members read theirs; staff with the permission write."""

from typing import Any, ClassVar

from django.contrib.auth.models import Group
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from agents.api.requests import body, check_query
from agents.api.views import View, person
from agents.errors import NotVisible
from agents.models import Step, Tenant
from agents.payload import TenantChange, TenantInput, parse
from agents.states import JOB_DONE
from agents.tenants import change_tenant, create_tenant, visible_tenants
from audit.api.pagination import ByName


class TenantSerializer(serializers.ModelSerializer[Tenant]):
    """A tenant. `jobs_unfinished`, `steps_waiting` (permitted, not with a worker yet) and `steps_running`: now."""

    url = serializers.SerializerMethodField()
    groups: serializers.SlugRelatedField[Group] = serializers.SlugRelatedField(
        slug_field="name", many=True, read_only=True
    )
    jobs_unfinished = serializers.IntegerField(read_only=True)
    steps_waiting = serializers.IntegerField(read_only=True)
    steps_running = serializers.IntegerField(read_only=True)

    class Meta:
        model = Tenant
        fields = [
            "name",
            "url",
            "weight",
            "max_running",
            "jobs_queued_max",
            "groups",
            "jobs_unfinished",
            "steps_waiting",
            "steps_running",
        ]
        read_only_fields = fields

    def get_url(self, tenant: Tenant) -> str:
        return reverse("tenant", kwargs={"name": tenant.name}, request=self.context.get("request"))


def with_counts(tenants: QuerySet[Tenant]) -> QuerySet[Tenant]:
    """Tenants with what they have under way."""

    def steps(*states: str) -> Coalesce:
        rows = Step.objects.filter(tenant=OuterRef("pk"), state__in=states).order_by().values("tenant")
        return Coalesce(Subquery(rows.annotate(count=Count("pk")).values("count")), 0)

    return tenants.annotate(
        jobs_unfinished=Count("jobs", filter=~Q(jobs__state__in=JOB_DONE), distinct=True),
        steps_waiting=steps("queued", "ready"),
        steps_running=steps("running"),
    ).prefetch_related("groups")


class TenantList(View):
    serializer_class = TenantSerializer
    pagination_class = ByName
    queryset = Tenant.objects.none()

    @extend_schema(operation_id="list_tenants", tags=["tenants"])
    def get(self, request: Request) -> Response:
        """The tenants that you belong to; all of them for staff who may view tenants."""
        check_query(request, {"cursor", "limit"})
        page = self.paginate_queryset(with_counts(visible_tenants(person(request))))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(
        operation_id="add_tenant",
        tags=["tenants"],
        request=TenantInput,
        responses={201: OpenApiResponse(TenantSerializer)},
    )
    def post(self, request: Request) -> Response:
        """Adds a tenant. Needs the permission to add tenants."""
        tenant = create_tenant(parse(TenantInput, body(request)), by=person(request))
        return Response(self.get_serializer(_found(request, tenant.name)).data, status=201)


class TenantDetail(View):
    serializer_class = TenantSerializer
    scopes: ClassVar[dict[str, str]] = {"PATCH": "jobs:write"}

    @extend_schema(operation_id="get_tenant", tags=["tenants"])
    def get(self, request: Request, name: str) -> Response:
        """One tenant, and what it has under way."""
        check_query(request, ())
        return Response(self.get_serializer(_found(request, name)).data)

    @extend_schema(operation_id="change_tenant", tags=["tenants"], request=TenantChange)
    def patch(self, request: Request, name: str) -> Response:
        """Changes what is given. Needs the permission to change tenants. What waits is shared anew from now on."""
        given = parse(TenantChange, body(request))
        tenant: Any = _found(request, name)
        change_tenant(tenant, given, by=person(request))
        return Response(self.get_serializer(_found(request, tenant.name)).data)


def _found(request: Request, name: str) -> Tenant:
    tenant = None if "\x00" in name else with_counts(visible_tenants(person(request))).filter(name=name).first()
    if tenant is None:
        raise NotVisible("There is no such tenant.")
    return tenant
