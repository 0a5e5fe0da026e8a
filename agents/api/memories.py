"""Memories: list, search, read, write, decide."""

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from pydantic import BaseModel, ConfigDict, Field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from agents.api.requests import body, check_query, whole_number
from agents.api.views import View, person
from agents.errors import InvalidInput, NotAllowed, UnknownAgent, UnknownRepository
from agents.memory import keeping, recall
from agents.memory.keeping import New, Place
from agents.memory.seen import may_admit_all, scope_for, visible_memories, visible_memory
from agents.models import Agent, Memory
from agents.payload import Slug, parse
from agents.selectors import usable_agents, visible_repositories
from audit.api.pagination import ByTime
from audit.api.permissions import HasScope

QUERY_MAX, FOUND_MOST = 1000, 50
DECIDE = "approvals:decide"


class MemoryInput(BaseModel):
    """A person's own words. Without a repository they are for the writer's own jobs; `everybody` needs the permission to
    admit memories."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["fact", "lesson"]
    text: Annotated[str, Field(min_length=1, max_length=keeping.TEXT_MAX)]
    repository: Slug | None = None
    agent: Slug | None = None
    everybody: bool = False
    expires_days: Annotated[int | None, Field(ge=1, le=keeping.EXPIRES_MAX_DAYS)] = None


class MemoryVerdict(BaseModel):
    """forget takes the words away for good."""

    model_config = ConfigDict(extra="forbid", strict=True)

    verdict: Literal["admit", "reject", "forget"]
    why: Annotated[str, Field(max_length=keeping.WHY_MAX)] = ""


class MemorySerializer(serializers.ModelSerializer[Memory]):
    """A memory. `untrusted`: a model's words, or words of what a job read; `embedding_model`: whose vector it has, ""
    where it has none, `lexical-256` where no model was asked; `used`: how often a job recalled it."""

    repository = serializers.SlugRelatedField[Any](slug_field="name", read_only=True)
    agent = serializers.SlugRelatedField[Any](slug_field="name", read_only=True)
    owner = serializers.SlugRelatedField[Any](slug_field="username", read_only=True)
    by = serializers.SlugRelatedField[Any](slug_field="username", read_only=True)
    decided_by = serializers.SlugRelatedField[Any](slug_field="username", read_only=True)

    class Meta:
        model = Memory
        fields = [
            *("id", "kind", "state", "origin", "scope", "repository", "owner", "agent", "text", "untrusted", "job"),
            *("step_id", "by", "decided_by", "decided_at", "decided_why", "expires_at", "embedding_model", "used"),
            *("used_at", "created_at"),
        ]
        read_only_fields = fields


class FoundSerializer(serializers.Serializer[Any]):
    """near, worded: its place in the list by vectors and in the one by words, from 1; null where it is not in it."""

    memory = MemorySerializer()
    near = serializers.IntegerField(allow_null=True)
    worded = serializers.IntegerField(allow_null=True)
    score = serializers.FloatField()


class MemoryList(View):
    serializer_class = MemorySerializer
    pagination_class = ByTime
    queryset = Memory.objects.none()

    @extend_schema(
        operation_id="list_memories",
        tags=["memories"],
        parameters=[
            OpenApiParameter("state", enum=Memory.State.values),
            OpenApiParameter("kind", enum=Memory.Kind.values),
            OpenApiParameter("repository"),
            OpenApiParameter("agent"),
        ],
    )
    def get(self, request: Request) -> Response:
        """What is remembered and proposed of what you may see, newest first."""
        check_query(request, {"cursor", "limit", "state", "kind", "repository", "agent"})
        found = visible_memories(person(request))
        for name, known in (("state", Memory.State.values), ("kind", Memory.Kind.values)):
            given = request.query_params.get(name)
            if given is not None and given not in known:
                raise ValidationError({name: [f"Must be one of {', '.join(known)}."]})
            found = found.filter(**{name: given}) if given is not None else found
        for name in ("repository", "agent"):
            of = request.query_params.get(name)
            if of is not None:
                found = found.filter(**{f"{name}__name": of}) if "\0" not in of else found.none()
        return self.get_paginated_response(self.get_serializer(self.paginate_queryset(found), many=True).data)

    @extend_schema(
        operation_id="add_memory",
        tags=["memories"],
        request=MemoryInput,
        responses={201: OpenApiResponse(MemorySerializer)},
    )
    def post(self, request: Request) -> Response:
        """Writes something down: admitted at once where you decide on that repository's memories
        (by token: with the scope `approvals:decide`), else proposed."""
        user, now = person(request), timezone.now()
        given = parse(MemoryInput, body(request))
        place = _place(request, given)
        new = New(
            kind=given.kind,
            text=given.text,
            place=place,
            origin=Memory.Origin.PERSON,
            key=keeping.key_of(place, given.text),
            untrusted=False,
            by=user,
            expires_at=keeping.expiry(given.expires_days, now=now),
        )
        only_propose = not HasScope(DECIDE)().has_permission(request, self)
        made = keeping.write(new, by=user, now=now, only_propose=only_propose)
        return Response(self.get_serializer(visible_memory(user, made.pk)).data, status=201)


class MemorySearch(View):
    serializer_class = FoundSerializer
    queryset = Memory.objects.none()

    @extend_schema(
        operation_id="search_memories",
        tags=["memories"],
        parameters=[OpenApiParameter("q", required=True), OpenApiParameter("limit", type=int)],
        responses={200: FoundSerializer(many=True)},
    )
    def get(self, request: Request) -> Response:
        """Admitted memories, the best first: by words and by spelling. Only a job's `memory.search` asks a model."""
        check_query(request, {"q", "limit"})
        query = request.query_params.get("q", "").strip()
        if not query or len(query) > QUERY_MAX:
            raise ValidationError({"q": [f"Must be 1 to {QUERY_MAX} characters."]})
        limit = whole_number(request, "limit", default=10, low=1, high=FOUND_MOST)
        user = person(request)
        hits = recall.search(query, scope_for(user), vector=recall.lexical(query), now=timezone.now(), limit=limit)
        rows = {one.pk: one for one in visible_memories(user).filter(pk__in=[hit.id for hit in hits])}
        found = [
            {"memory": rows[hit.id], "near": hit.near, "worded": hit.worded, "score": hit.score}
            for hit in hits
            if hit.id in rows
        ]
        return Response(self.get_serializer(found, many=True).data)


class MemoryDetail(View):
    serializer_class = MemorySerializer
    scopes: ClassVar[dict[str, str]] = {"POST": DECIDE}

    @extend_schema(operation_id="get_memory", tags=["memories"])
    def get(self, request: Request, memory_id: UUID) -> Response:
        """One memory, and where it comes from."""
        check_query(request, ())
        return Response(self.get_serializer(visible_memory(person(request), memory_id)).data)

    @extend_schema(
        operation_id="decide_memory",
        tags=["memories"],
        request=MemoryVerdict,
        responses={200: OpenApiResponse(MemorySerializer)},
    )
    def post(self, request: Request, memory_id: UUID) -> Response:
        """Admits, rejects or forgets it: for who owns the repository, whose own it is, and who may admit memories."""
        user = person(request)
        given = parse(MemoryVerdict, body(request))
        memory = visible_memory(user, memory_id)
        keeping.decide(memory, given.verdict, by=user, why=given.why, now=timezone.now())
        return Response(self.get_serializer(visible_memory(user, memory_id)).data)


def _place(request: Request, given: MemoryInput) -> Place:
    """Raises InvalidInput, NotAllowed."""
    user = person(request)
    repository, agent = None, None
    if given.repository is not None:
        repository = visible_repositories(user).filter(name=given.repository).first()
        if repository is None:
            raise UnknownRepository(
                f"There is no repository {given.repository!r} that you may use.", field="repository"
            )
    if given.agent is not None:
        agent = usable_agents().filter(name=given.agent).first()
        if not isinstance(agent, Agent):
            raise UnknownAgent(f"There is no enabled agent {given.agent!r}.", field="agent")
    if given.everybody and repository is not None:
        raise InvalidInput("Give a repository or everybody, not both.", field="everybody")
    if given.everybody and not may_admit_all(user):
        raise NotAllowed("Only who may admit memories writes for everybody.")
    return Place(repository=repository, owner=None if repository or given.everybody else user, agent=agent)
