"""What jobs may use: tools, agents, repositories. And who you are."""

from typing import ClassVar

from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from agents.api.requests import body, check_query
from agents.api.serializers import (
    AgentSerializer,
    MeSerializer,
    ModelEndpointSerializer,
    RepositorySerializer,
    ToolsSerializer,
)
from agents.api.views import View, person
from agents.models import Agent, ModelEndpoint, Repository
from agents.payload import RepositoryInput
from agents.repositories import create_repository
from agents.selectors import usable_agents, visible_repositories
from audit.api.pagination import ByName
from tools import registry


class ToolList(View):
    serializer_class = ToolsSerializer

    @extend_schema(operation_id="list_tools", tags=["catalogue"], responses={200: ToolsSerializer})
    def get(self, request: Request) -> Response:
        """The tools that this server has, with the schema of their arguments."""
        check_query(request, ())
        return Response(self.get_serializer({"results": registry.every()}).data)


class AgentList(View):
    serializer_class = AgentSerializer
    pagination_class = ByName
    queryset = Agent.objects.none()

    @extend_schema(operation_id="list_agents", tags=["catalogue"])
    def get(self, request: Request) -> Response:
        """The agents that a job may name."""
        check_query(request, {"cursor", "limit"})
        page = self.paginate_queryset(usable_agents())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)


class ModelList(View):
    serializer_class = ModelEndpointSerializer
    pagination_class = ByName
    queryset = ModelEndpoint.objects.none()

    @extend_schema(operation_id="list_models", tags=["catalogue"])
    def get(self, request: Request) -> Response:
        """The endpoints that jobs' models are asked at: what they can do and cost, and whether they are asked now."""
        check_query(request, {"cursor", "limit"})
        page = self.paginate_queryset(ModelEndpoint.objects.all())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)


class RepositoryList(View):
    serializer_class = RepositorySerializer
    pagination_class = ByName
    queryset = Repository.objects.none()

    @extend_schema(operation_id="list_repositories", tags=["catalogue"])
    def get(self, request: Request) -> Response:
        """The repositories that your jobs may use."""
        check_query(request, {"cursor", "limit"})
        page = self.paginate_queryset(visible_repositories(request.user))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(
        operation_id="add_repository",
        tags=["catalogue"],
        request=RepositoryInput,
        responses={201: OpenApiResponse(RepositorySerializer)},
    )
    def post(self, request: Request) -> Response:
        """Adds a repository of your own. Needs the permission to add repositories."""
        repository = create_repository(body(request), user=person(request), now=timezone.now())
        return Response(self.get_serializer(repository).data, status=201)


class Me(View):
    serializer_class = MeSerializer
    scopes: ClassVar[dict[str, str]] = {"GET": ""}

    @extend_schema(operation_id="get_me", tags=["me"])
    def get(self, request: Request) -> Response:
        """Who the server takes you for, and what your token may do."""
        check_query(request, ())
        return Response(self.get_serializer(request.user).data)
