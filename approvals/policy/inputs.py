"""A call and its job, as policies see them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tools import labels, registry
from tools.errors import UnknownTool
from tools.risk import command_facts, hosts_of, secrets_of

JOB_SPENT, OWNER_SPENT = "job/0/*", "owner/24/*"  # what `job.spent` and `job.owner_spent` read (see `budget_key`)
NOTHING = {"calls": 0, "tokens": 0, "minutes": 0}


def budget_key(per: str, hours: int, tools: tuple[str, ...] = ("*",)) -> str:
    """Names an account: whose ("job", "owner", "agent", "tenant"), of the last how many hours (0: ever), which tools."""
    return f"{per}/{hours}/{','.join(sorted(tools))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInput:
    """A call and its job. What is None cannot be told: it fits no allow rule, and every other one.

    effect, queue, risk: of the tool and this call; risk_score: 0 to 100; repository, branch, environment: name, default
    branch and environment, or ""; groups: names of the owner's groups; kind: "goal", "plan", "workflow" or "chat"; programs:
    what a command runs, () where the tool runs none; target_branch: what the call changes or reads, "" where that is no
    branch; first_use: of this tool by this agent; seen: labels that the calls of this job (and of its family) gave;
    unplanned: no plan from before the job read what others wrote has its tool; tainted: where in its arguments values
    stand that come from there, and not from the prompt or such a plan;
    spent: {account (`budget_key`): {calls, tokens, minutes}} before this call; now: the time of the decision.
    """

    tool: str
    arguments: Mapping[str, Any]
    effect: str
    queue: str
    risk: str
    agent: str
    owner: str
    owner_id: int
    groups: list[str]
    repository: str
    branch: str
    labels: Mapping[str, Any]
    job_id: str
    step_id: str
    kind: str
    risk_score: int = 0
    tenant: str = "default"
    environment: str = ""
    programs: tuple[str, ...] | None = ()
    target_branch: str | None = ""
    first_use: bool | None = None
    seen: frozenset[str] | None = None
    unplanned: bool | None = None
    tainted: tuple[str, ...] | None = None
    spent: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    now: datetime | None = None

    @property
    def network(self) -> tuple[str, ...] | None:
        """The hosts that the call asks to reach, () where it asks for none."""
        return hosts_of(self.tool, self.arguments)

    @property
    def secrets(self) -> tuple[str, ...] | None:
        """The handles of the secrets that the call asks for, () where it asks for none."""
        return secrets_of(self.tool, self.arguments)

    @property
    def command(self) -> Mapping[str, Any] | None:
        """What is read of the command that the call runs (`tools.commands.facts`); None where it runs none."""
        return command_facts(self.tool, self.arguments)

    @property
    def carries(self) -> frozenset[str] | None:
        """The labels of the call itself (`tools.labels`): what it brings in, and whether it sends."""
        try:
            return labels.of_call(registry.get(self.tool), self.arguments)
        except UnknownTool:
            return None

    @property
    def exposed(self) -> frozenset[str] | None:
        """The labels that the job would have seen with this call."""
        carries = self.carries
        return None if self.seen is None or carries is None else self.seen | carries

    def variables(self) -> dict[str, Any]:
        """`call`, `job` and `now`, as conditions name them. What cannot be told is missing."""
        call: dict[str, Any] = {
            "tool": self.tool,
            "args": dict(self.arguments),
            "effect": str(self.effect),
            "queue": self.queue,
            "risk": str(self.risk),
            "risk_score": self.risk_score,
        }
        if self.programs is not None:
            call["program"] = self.programs[0] if self.programs else ""
            call["programs"] = list(self.programs)
        if (command := self.command) is not None:
            call["command"] = dict(command)
        if self.target_branch is not None:
            call["branch"] = self.target_branch
        if (hosts := self.network) is not None:
            call["network"] = list(hosts)
        if (handles := self.secrets) is not None:
            call["secrets"] = list(handles)
        if self.first_use is not None:
            call["first_use"] = self.first_use
        if (carries := self.carries) is not None:
            call["labels"] = sorted(carries)
        if self.unplanned is not None:
            call["unplanned"] = self.unplanned
        if self.tainted is not None:
            call["tainted"] = list(self.tainted)
        job: dict[str, Any] = {
            "id": self.job_id,
            "agent": self.agent,
            "owner": self.owner,
            "groups": list(self.groups),
            "repository": self.repository,
            "branch": self.branch,
            "labels": dict(self.labels),
            "kind": str(self.kind),
            "tenant": self.tenant,
            "environment": self.environment,
        }
        if self.seen is not None:
            job["seen"] = sorted(self.seen)
        if JOB_SPENT in self.spent:
            job["spent"] = dict(self.spent[JOB_SPENT])
        if OWNER_SPENT in self.spent:
            job["owner_spent"] = dict(self.spent[OWNER_SPENT])
        known = {"call": call, "job": job}
        return known if self.now is None else {**known, "now": self.now.astimezone(UTC)}
