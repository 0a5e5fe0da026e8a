"""The rows of a turn, as read."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from agents.engine import backlog
from agents.models import RateLimit
from agents.states import JobState, StepState
from approvals.policy.match import matches


@dataclass(slots=True)
class JobRow:
    """A job that this turn has locked. `state` and `feed_seq` go along with what the turn decides."""

    id: UUID
    kind: str
    state: str
    cancel_requested: bool
    owner_id: int
    owner: str
    labels: Any
    feed_seq: int
    tokens_used: int
    agent: str
    repository: str
    branch: str
    environment: str
    tenant_id: int | None
    tenant: str | None
    special: bool
    ends_specially: bool
    groups: list[str]
    policies: Any
    limits: list[str]

    def __post_init__(self) -> None:
        self.labels = json.loads(self.labels)
        self.groups.sort()
        self.policies = frozenset(self.policies)  # the ids of what is in force

    @property
    def plain(self) -> bool:
        """It runs, and nobody wants it otherwise."""
        running = self.state in (JobState.QUEUED, JobState.RUNNING)
        return running and not (self.special or self.cancel_requested or backlog.capped(self.tenant_id))

    def limited(self, tool: str) -> bool:
        """Is there a rate limit on the tool, or may there be one on the endpoint that it asks?"""
        for limit in self.limits:
            kind, _, pattern = limit.partition(" ")
            if tool.startswith("llm.") if kind == RateLimit.Kind.ENDPOINT else matches([pattern], tool):
                return True
        return False


@dataclass(slots=True)
class StepRow:
    """A step that this turn has locked. `state` and `attempt` go along with what the turn decides."""

    id: UUID
    job_id: UUID
    seq: int
    key: str
    tool: str
    schema_version: int
    arguments: Any
    needs: list[str]
    needs_success: bool
    state: str
    attempt: int
    cancel_requested: bool
    delayed: bool
    permit_id: UUID | None
    target_state: Any
    preview_digest: str
    effect: str
    queue: str
    special: bool
    decision: Any

    def __post_init__(self) -> None:
        self.arguments, self.target_state = json.loads(self.arguments), json.loads(self.target_state)

    @property
    def decided(self) -> dict[str, Any]:
        """Its decision; read only where a claim asks for it."""
        if isinstance(self.decision, (str, bytes)):
            self.decision = json.loads(self.decision)
        return self.decision or {}

    @property
    def seen(self) -> bool:
        """People saw what it would do."""
        return bool(self.target_state or self.preview_digest)

    @property
    def facts(self) -> dict[str, Any]:
        """What every audit record of a step says (`agents.engine.transitions.step_facts`)."""
        return {"job": str(self.job_id), "key": self.key, "tool": self.tool, "attempt": self.attempt}

    @property
    def entry(self) -> dict[str, Any]:
        """What the feed says (`agents.engine.transitions.step_entry`)."""
        return {"state": self.state, "key": self.key, "tool": self.tool, "seq": self.seq, "attempt": self.attempt}


ACTIVE = frozenset({StepState.READY, StepState.QUEUED, StepState.RUNNING})
