"""The registry: what agents are good for, and how they did in real jobs; who is asked where a job names no agent."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from math import sqrt
from typing import Any
from uuid import UUID

from django.db.models import Avg, Count, DurationField, ExpressionWrapper, F, Q, QuerySet, Sum
from django.db.models.aggregates import Aggregate

from agents.models import Agent, Job
from agents.states import JOB_DONE, JobState

DAYS = 30
Z = 1.64  # of the bound below: nine times in ten the true rate is above it
# The share of what an agent costs, beside the dearest, that counts against its record.
COST_SHARE = 0.2


class Median(Aggregate):
    function = "percentile_cont"
    template = "%(function)s(0.5) WITHIN GROUP (ORDER BY %(expressions)s)"
    name = "median"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """How an agent did in jobs that ended in a time. success: 0 to 1, None where nothing ended (what people cancelled
    counts for neither); sure: the rate that it has at least, given how few jobs there were; median: of the time from
    start to end; costs in US dollars."""

    jobs: int = 0
    succeeded: int = 0
    failed: int = 0
    success: float | None = None
    sure: float = 0.0
    median: timedelta | None = None
    tokens: int = 0
    cost: Decimal = Decimal(0)
    cost_a_job: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """An agent that would do, its record, and its score (the best first) with the reason in words."""

    agent: Agent
    record: Record
    score: float
    why: str


def records(jobs: QuerySet[Job], *, by: str = "agent") -> dict[UUID, Record]:
    """By agent (or another column of the job, such as `agent_version`), of the jobs given."""
    took = ExpressionWrapper(F("finished_at") - F("started_at"), output_field=DurationField())
    rows: Iterable[dict[str, Any]] = (
        jobs.filter(**{f"{by}__isnull": False})
        .order_by()
        .values(by)
        .annotate(
            jobs=Count("pk"),
            succeeded=Count("pk", filter=Q(state=JobState.SUCCEEDED)),
            failed=Count("pk", filter=Q(state__in=JOB_DONE - {JobState.SUCCEEDED, JobState.CANCELLED})),
            median=Median(took, filter=Q(finished_at__isnull=False, started_at__isnull=False)),
            tokens=Sum("tokens_used"),
            cost=Sum("cost_used"),
            cost_a_job=Avg("cost_used", filter=Q(state__in=JOB_DONE)),
        )
    )
    return {row[by]: _record(row) for row in rows}


def rank(capabilities: Collection[str], *, now: datetime, among: Collection[UUID] | None = None) -> list[Ranked]:
    """Enabled agents that are good for all of `capabilities`, the best first: by the success rate that their jobs of the
    last days vouch for, less what they cost beside the dearest. Without a record an agent counts as middling, so that
    a new one gets its chance. among: only these agents."""
    agents = Agent.objects.filter(enabled=True, capabilities__contains=list(capabilities)).select_related("route")
    if among is not None:
        agents = agents.filter(pk__in=among)
    found = list(agents)
    known = records(Job.objects.filter(agent__in=found, finished_at__gte=now - timedelta(days=DAYS)))
    dearest = max((one.cost_a_job for one in known.values()), default=Decimal(0))
    ranked = [_ranked(agent, known.get(agent.pk, Record()), dearest) for agent in found]
    return sorted(ranked, key=lambda one: (-one.score, one.agent.name))


def lower_bound(succeeded: int, ended: int) -> float:
    """Of a success rate: Wilson's score interval (1927), its lower end."""
    if not ended:
        return 0.0
    rate, z2 = succeeded / ended, Z * Z
    middle = rate + z2 / (2 * ended)
    spread = Z * sqrt((rate * (1 - rate) + z2 / (4 * ended)) / ended)
    return max(0.0, (middle - spread) / (1 + z2 / ended))


def _ranked(agent: Agent, record: Record, dearest: Decimal) -> Ranked:
    share = float(record.cost_a_job / dearest) if dearest else 0.0
    base = record.sure if record.success is not None else 0.5
    said = "no jobs yet" if record.success is None else f"{record.succeeded} of {record.succeeded + record.failed} jobs"
    return Ranked(agent=agent, record=record, score=base - COST_SHARE * share, why=said)


def _record(row: dict[str, Any]) -> Record:
    ended = row["succeeded"] + row["failed"]
    return Record(
        jobs=row["jobs"],
        succeeded=row["succeeded"],
        failed=row["failed"],
        success=row["succeeded"] / ended if ended else None,
        sure=lower_bound(row["succeeded"], ended),
        median=row["median"],
        tokens=row["tokens"] or 0,
        cost=row["cost"] or Decimal(0),
        cost_a_job=row["cost_a_job"] or Decimal(0),
    )
