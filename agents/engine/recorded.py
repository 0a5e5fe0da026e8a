"""Steps' decisions, as policies are tried on them (see `approvals.policy.recorded`)."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet

from agents.engine.control.fork import COPIED
from agents.models import Job, Step
from approvals.policy.evaluate import Decision, PolicyInput
from approvals.policy.recorded import Recorded
from audit.kinds import Event
from audit.models import Head, Leaf
from tools import registry, risk

COMMAND_MAX = 300
RECORDS = 4_000  # of the log that are looked through at once


class Steps:
    """A step has one decision: its latest. Steps are found by the time at which they were made, which their ids hold."""

    def count(self, since: datetime, until: datetime) -> int:
        """About: by the planner's statistics where there are many."""
        first, last = _first_id(since), _first_id(until)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM (SELECT 1 FROM agents_step WHERE id >= %s AND id < %s AND decision IS NOT NULL"
                " LIMIT 200001) AS found",
                [first, last],
            )
            return int(cursor.fetchone()[0])

    def page(self, since: datetime, until: datetime, *, before: str, limit: int) -> tuple[list[Recorded], str]:
        last = UUID(before) if before else _first_id(until)
        rows = list(_decided().filter(id__gte=_first_id(since), id__lt=last).order_by("-id")[: limit + 1])
        more = len(rows) > limit
        rows = rows[:limit]
        return _all(rows), str(rows[-1].pk) if more else ""

    def of(self, subject_ids: Iterable[str]) -> list[Recorded]:
        known = []
        for one in subject_ids:
            try:
                known.append(UUID(one))
            except ValueError:
                continue
        return _all(_decided().filter(pk__in=known))

    def position(self) -> int:
        return Head.objects.values_list("size", flat=True).first() or 0

    def after(self, position: int) -> tuple[list[Recorded], int]:
        """By the audit log: its order is that of the commits, so that no decision is missed."""
        last = min(self.position(), position + RECORDS)
        subjects = (
            Leaf.objects.filter(
                index__gte=position, index__lt=last, record__event=Event.STEP_DECIDED, record__target_type="step"
            )
            .order_by("index")
            .values_list("record__target_id", flat=True)
        )
        return self.of(dict.fromkeys(subjects)) if last > position else [], last


def _decided() -> QuerySet[Step]:
    return (
        Step.objects.filter(decision__isnull=False)
        .exclude(decision__effect=COPIED)
        .select_related("job__agent", "job__owner", "job__repository", "job__tenant")
        .prefetch_related("job__owner__groups")
    )


def _all(steps: Iterable[Step]) -> list[Recorded]:
    return [_recorded(step) for step in steps]


def _recorded(step: Step) -> Recorded:
    job = step.job
    kept: dict[str, Any] = step.decision or {}
    decision, facts = Decision.from_json(kept), kept.get("facts") or {}
    many = step.kind == Step.Kind.CHUNK
    calls: list[dict[str, Any]] = step.arguments["calls"] if many else [step.arguments]
    return Recorded(
        subject_id=str(step.pk),
        parent_id=str(job.pk),
        path=job.get_absolute_url(),
        command=_command(step, calls[0]),
        at=step.ready_at or step.created_at,
        inputs=[_input(job, step, arguments, facts, alone=not many) for arguments in calls],
        decision=decision,
        exact="groups" in facts,
    )


def _input(job: Job, step: Step, arguments: Mapping[str, Any], facts: Mapping[str, Any], *, alone: bool) -> PolicyInput:
    now = facts.get("now")
    environment = facts.get("environment", job.repository.environment if job.repository else "")
    level, score = _risk(job, step, arguments, environment)
    branch = facts.get("branch", risk.branch_of(step.tool, arguments))
    return PolicyInput(
        tool=step.tool,
        arguments=arguments,
        effect=step.effect,
        queue=step.queue,
        risk=step.risk if alone else level,
        risk_score=facts.get("score", score),
        agent=job.agent.name if job.agent else "",
        owner=job.owner.get_username(),
        owner_id=job.owner_id,
        groups=facts["groups"] if "groups" in facts else sorted(group.name for group in job.owner.groups.all()),
        repository=job.repository.name if job.repository else "",
        branch=job.repository.default_branch if job.repository else "",
        labels=job.labels,
        job_id=str(job.pk),
        step_id=str(step.pk),
        kind=job.kind,
        tenant=job.tenant.name if job.tenant else "default",
        environment=environment,
        programs=risk.programs_of(step.tool, arguments),
        target_branch=branch if isinstance(branch, str) else None,
        first_use=facts.get("first_use"),
        seen=None if facts.get("seen") is None else frozenset(facts["seen"]),
        unplanned=facts.get("unplanned"),
        tainted=None if facts.get("tainted") is None else tuple(facts["tainted"]),
        spent=facts.get("spent") or {},
        now=datetime.fromisoformat(now) if now else step.ready_at,
    )


def _risk(job: Job, step: Step, arguments: Mapping[str, Any], environment: str) -> tuple[str, int]:
    """As these arguments look today; the step's own level was kept."""
    place = risk.Place(default_branch=job.repository.default_branch if job.repository else "", environment=environment)
    try:
        found = risk.assess(registry.get(step.tool), arguments, place)
    except Exception:  # of an older schema, or of a tool that has gone
        return step.risk, 0
    return str(found.level), found.score


def _command(step: Step, arguments: Mapping[str, Any]) -> str:
    try:
        return registry.get(step.tool).describe(arguments)[:COMMAND_MAX]
    except Exception:  # of an older schema, or of a tool that has gone
        return step.tool


def _first_id(moment: datetime) -> UUID:
    """The lowest id that a row of that millisecond can have (RFC 9562, 5.7)."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)
