"""Agents one by one: what their profiles say and said, how they did in jobs; and teams."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from pydantic import BaseModel, ConfigDict, Field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agents import profiles, teams
from agents.api.requests import body, check_query
from agents.api.views import View, person
from agents.choosing import DAYS, Record, records
from agents.errors import NotVisible
from agents.models import Agent, AgentVersion, Team
from agents.payload import MAX_LABELS, LabelKey, LabelValue, parse
from agents.selectors import visible_jobs
from audit.api.pagination import ByName, Pages

_Text = Annotated[str, Field(max_length=20_000)]
_Slug = Annotated[str, Field(pattern=r"^[-a-zA-Z0-9_]+$", max_length=60)]


class AgentVersionInput(BaseModel):
    """What the profile is to say from now on. What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Annotated[int, Field(ge=0, description="The newest version that you saw; 0: it had none.")]
    note: Annotated[str, Field(max_length=500, description="What is new, in words.")] = ""
    role: Annotated[str | None, Field(max_length=120)] = None
    description: _Text | None = None
    instructions: Annotated[str | None, Field(min_length=1, max_length=100_000)] = None
    tools: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=120)]] | None, Field(min_length=1, max_length=100)
    ] = None
    capabilities: Annotated[list[_Slug] | None, Field(max_length=30)] = None
    labels: Annotated[dict[LabelKey, LabelValue] | None, Field(max_length=MAX_LABELS)] = None
    planning: Literal["loop", "plan", "review"] | None = None
    model: Annotated[str | None, Field(max_length=120, description="Empty: the server's.")] = None
    route: Annotated[str | None, Field(max_length=80, description="By name. Empty: the default route.")] = None
    max_steps: Annotated[int | None, Field(ge=1, le=100_000)] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=2_000_000_000)] = None
    max_cost: Annotated[
        str | None,
        Field(pattern=r"^(\d{1,8}(\.\d{1,6})?)?$", description='US dollars, such as "2.50". Empty: no bound.'),
    ] = None


class AgentRecordSerializer(serializers.Serializer[Record]):
    """How jobs ended. success: of those that ended, 0 to 1 (what people cancelled counts for neither), null where none
    did; sure: the rate that so few jobs vouch for; median_s: from start to end; costs are US dollars."""

    jobs = serializers.IntegerField()
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField()
    success = serializers.FloatField(allow_null=True)
    sure = serializers.FloatField()
    median_s = serializers.SerializerMethodField()
    tokens = serializers.IntegerField()
    cost = serializers.DecimalField(max_digits=18, decimal_places=6)
    cost_a_job = serializers.DecimalField(max_digits=18, decimal_places=6)

    def get_median_s(self, record: Record) -> float | None:
        return record.median.total_seconds() if record.median is not None else None


class _Recorded(serializers.ModelSerializer[Any]):
    """With `record`, of the jobs that whoever asks may see, from the context."""

    record = serializers.SerializerMethodField()

    @extend_schema_field(AgentRecordSerializer)
    def get_record(self, one: Agent | AgentVersion) -> Any:
        return AgentRecordSerializer(self.context["records"].get(one.pk, Record())).data


class AgentVersionSerializer(_Recorded):
    """What a profile said. record: of all jobs that ran by it."""

    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True, read_only=True)
    definition = serializers.DictField(read_only=True)

    class Meta:
        model = AgentVersion
        fields = ["number", "sha256", "note", "created_by", "created_at", "definition", "record"]
        read_only_fields = fields


class AgentDetailSerializer(_Recorded):
    """What a profile says now. version: its newest, 0 where it has none yet; record: of the last 30 days."""

    route = serializers.SlugRelatedField[Any](slug_field="name", read_only=True, allow_null=True)
    owner = serializers.SlugRelatedField[Any](slug_field="username", read_only=True, allow_null=True)
    labels = serializers.DictField(read_only=True)
    version = serializers.SerializerMethodField()
    teams = serializers.SerializerMethodField(help_text="That it leads or is a member of, by name.")

    class Meta:
        model = Agent
        fields = ["name", "enabled", "version", *profiles.FIELDS, "max_cost", "route", "owner", "teams", "record"]
        read_only_fields = fields

    def get_version(self, agent: Agent) -> int:
        return profiles.newest(agent)

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_teams(self, agent: Agent) -> list[str]:
        return [team.name for team in teams.of(agent)]


class TeamMemberSerializer(serializers.Serializer[Any]):
    agent = serializers.CharField(source="agent.name")
    part = serializers.CharField(help_text="What the lead hands to it, in words.")


class TeamSerializer(serializers.ModelSerializer[Team]):
    """A team: the lead gets the goal and hands parts to its members. members: those that may get one now."""

    lead = serializers.SlugRelatedField[Any](slug_field="name", read_only=True)
    members = serializers.SerializerMethodField()

    class Meta:
        model = Team
        fields = ["name", "description", "lead", "enabled", "members"]
        read_only_fields = fields

    @extend_schema_field(TeamMemberSerializer(many=True))
    def get_members(self, team: Team) -> Any:
        return TeamMemberSerializer(team.members.all(), many=True).data


class ByNumberDown(Pages):
    ordering = "-number"


class AgentDetail(View):
    serializer_class = AgentDetailSerializer

    @extend_schema(operation_id="get_agent", tags=["agents"])
    def get(self, request: Request, name: str) -> Response:
        """What its profile says, and how it did lately in the jobs that you may see."""
        check_query(request, ())
        agent = _agent(name)
        return Response(self.get_serializer(agent, context={"records": _lately(request, agent, timezone.now())}).data)


class AgentVersionList(View):
    serializer_class = AgentVersionSerializer
    pagination_class = ByNumberDown
    queryset = AgentVersion.objects.none()

    @extend_schema(operation_id="list_agent_versions", tags=["agents"])
    def get(self, request: Request, name: str) -> Response:
        """What the profile said, the newest version first, with the record of each."""
        check_query(request, {"cursor", "limit"})
        page = self.paginate_queryset(AgentVersion.objects.filter(agent=_agent(name)).select_related("created_by"))
        return self.get_paginated_response(
            self.get_serializer(page, many=True, context=_by_version(request, page)).data
        )

    @extend_schema(
        operation_id="change_agent",
        tags=["agents"],
        request=AgentVersionInput,
        responses={
            201: AgentVersionSerializer,
            409: OpenApiResponse(description="Its newest version is another one by now."),
        },
    )
    def post(self, request: Request, name: str) -> Response:
        """Changes the profile: jobs from now on run by the version that this makes. Needs the permission to change
        agents. A profile that says the same already makes no version: the newest is given back."""
        given = parse(AgentVersionInput, body(request)).model_dump(exclude_none=True)
        seen, note = given.pop("version"), given.pop("note")
        made = profiles.change(_agent(name), given, seen=seen, note=note, by=person(request), now=timezone.now())
        return Response(self.get_serializer(made, context=_by_version(request, [made])).data, status=201)


class AgentVersionDetail(View):
    serializer_class = AgentVersionSerializer

    @extend_schema(operation_id="get_agent_version", tags=["agents"])
    def get(self, request: Request, name: str, number: int) -> Response:
        """What the profile said in one version."""
        check_query(request, ())
        found = AgentVersion.objects.filter(agent=_agent(name), number=number).select_related("created_by").first()
        if found is None:
            raise NotVisible("There is no such version.")
        return Response(self.get_serializer(found, context=_by_version(request, [found])).data)


class TeamList(View):
    serializer_class = TeamSerializer
    pagination_class = ByName
    queryset = Team.objects.none()

    @extend_schema(operation_id="list_teams", tags=["agents"])
    def get(self, request: Request) -> Response:
        """The teams that a job may name, where they are enabled."""
        check_query(request, {"cursor", "limit"})
        page = self.paginate_queryset(teams.every())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)


def _agent(name: str) -> Agent:
    """Everybody who is signed in sees all agents, as on their page. Raises NotVisible."""
    found = Agent.objects.select_related("route", "owner").filter(name=name).first()
    if found is None:
        raise NotVisible("There is no such agent.")
    return found


def _lately(request: Request, agent: Agent, now: datetime) -> dict[Any, Record]:
    return records(visible_jobs(request.user).filter(agent=agent, created_at__gte=now - timedelta(days=DAYS)))


def _by_version(request: Request, versions: Any) -> dict[str, Any]:
    jobs = visible_jobs(request.user).filter(agent_version__in=[one.pk for one in versions or ()])
    return {"records": records(jobs, by="agent_version")}
