"""Versions of agents: what a profile said when a job was submitted is what the job runs by, whatever is edited since.

Only where it may go stays live: a route that is changed, or an endpoint that is switched off, counts at once.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max

from agents.errors import InvalidInput, NotAllowed, NotNow
from agents.models import Agent, AgentVersion, Job, ModelRoute
from audit.actor import Actor, Target
from audit.append import record
from audit.canonical import canonical_json
from audit.kinds import Event

FIELDS = (
    "role",
    "description",
    "instructions",
    "tools",
    "capabilities",
    "labels",
    "planning",
    "model",
    "max_steps",
    "max_tokens",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a job's conversation and plans need of its agent."""

    name: str
    role: str
    instructions: str
    tools: list[str]


def definition(agent: Agent) -> dict[str, Any]:
    """What a version keeps."""
    said = {name: getattr(agent, name) for name in FIELDS}
    cost = None if agent.max_cost is None else f"{agent.max_cost:.6f}"
    return {**said, "max_cost": cost, "route": agent.route.name if agent.route else ""}


def digest(said: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(said)).hexdigest()


def version_of(agent: Agent, *, now: datetime, by: User | None = None, note: str = "") -> AgentVersion:
    """The version that says what the agent's row says: its newest, or a new one with its audit record.

    by, note: for a new one; who changed the profile, and what is new.
    """
    said = definition(agent)
    sha256 = digest(said)
    last = AgentVersion.objects.filter(agent=agent).order_by("-number").first()
    if last is not None and last.sha256 == sha256:
        return last
    with transaction.atomic():
        Agent.objects.select_for_update(no_key=True, of=("self",)).get(pk=agent.pk)
        last = AgentVersion.objects.filter(agent=agent).order_by("-number").first()
        if last is not None and last.sha256 == sha256:
            return last
        number = 1 if last is None else last.number + 1
        made = AgentVersion.objects.create(
            agent=agent, number=number, definition=said, sha256=sha256, note=note[:500], created_by=by, created_at=now
        )
        record(
            Event.AGENT_CHANGED,
            actor=Actor.system("profiles") if by is None else Actor.user(by.pk),
            target=Target(type="agent", id=str(agent.pk)),
            context={"agent": agent.name, "version": number, "sha256": sha256},
            payload={"definition": said, "note": note},
        )
        return made


def newest(agent: Agent) -> int:
    """The number of its newest version; 0 where it has none."""
    return AgentVersion.objects.filter(agent=agent).aggregate(last=Max("number"))["last"] or 0


def may_change(user: User) -> bool:
    return user.is_active and user.has_perm("agents.change_agent")


@transaction.atomic
def change(
    agent: Agent, fields: Mapping[str, Any], *, seen: int, note: str = "", by: User, now: datetime
) -> AgentVersion:
    """The version that an agent has once these fields of its profile say otherwise.

    fields: of a `definition`, in its form. seen: the newest version's number when `by` looked.

    Raises:
        NotAllowed
        NotNow: somebody else changed it meanwhile.
        InvalidInput: with every field that cannot be so.
    """
    if not may_change(by):
        raise NotAllowed("You may not change agents.")
    agent = Agent.objects.select_for_update(no_key=True, of=("self",)).select_related("route").get(pk=agent.pk)
    last = newest(agent)
    if last != seen:
        raise NotNow(f"{agent.name} is at version {last} by now, and not {seen}: look at that one.")
    version_of(agent, now=now)  # what it said until now stays on record, too
    wanted = dict(fields)
    if "route" in wanted:
        wanted["route"] = _route(wanted["route"])
    if "max_cost" in wanted:
        wanted["max_cost"] = Decimal(wanted["max_cost"]) if wanted["max_cost"] else None
    for name, value in wanted.items():
        setattr(agent, name, value)
    try:
        agent.full_clean(validate_unique=False)
    except ValidationError as error:
        problems = [(name, " ".join(told)) for name, told in error.message_dict.items()]
        raise InvalidInput(problems[0][1], problems=problems) from None
    agent.save()
    return version_of(agent, now=now, by=by, note=note)


def _route(name: str) -> ModelRoute | None:
    found = ModelRoute.objects.filter(name=name).first() if name else None
    if name and found is None:
        raise InvalidInput(f"There is no route {name!r}.", field="route")
    return found


def of(job: Job) -> Profile | None:
    """The profile that the job runs by; None where it has no agent."""
    if job.agent is None:
        return None
    said = job.agent_version.definition if job.agent_version else definition(job.agent)
    return Profile(
        name=job.agent.name,
        role=str(said.get("role", "")),
        instructions=str(said["instructions"]),
        tools=list(said["tools"]),
    )
