"""Versions of agents: what a profile said when a job was submitted is what the job runs by, whatever is edited since.

Only where it may go stays live: a route that is changed, or an endpoint that is switched off, counts at once.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Max

from agents.models import Agent, AgentVersion, Job
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
    newest = AgentVersion.objects.filter(agent=agent).order_by("-number").first()
    if newest is not None and newest.sha256 == sha256:
        return newest
    with transaction.atomic():
        Agent.objects.select_for_update(no_key=True, of=("self",)).get(pk=agent.pk)
        newest = AgentVersion.objects.filter(agent=agent).order_by("-number").first()
        if newest is not None and newest.sha256 == sha256:
            return newest
        number = (AgentVersion.objects.filter(agent=agent).aggregate(last=Max("number"))["last"] or 0) + 1
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
