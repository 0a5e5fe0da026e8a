"""What policies know of a call beyond the call and its job: looked up only where a rule for its tool asks for it."""

import json
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import connection

from agents.models import Job, Step
from agents.models.tenant import DEFAULT
from agents.provenance import labels, origins
from approvals.policy.evaluate import Decision
from approvals.policy.inputs import PolicyInput
from approvals.policy.match import Patterns
from tools import risk

_USED = """
SELECT EXISTS (
  SELECT FROM agents_step s JOIN agents_job j ON j.id = s.job_id
   WHERE s.tool = %(tool)s AND s.attempt > 0 AND s.id <> %(step)s
     AND CASE WHEN %(agent)s::uuid IS NULL THEN j.agent_id IS NULL AND j.owner_id = %(owner)s
              ELSE j.agent_id = %(agent)s::uuid END)
"""
_SPENT = """
SELECT s.tool, count(*), COALESCE(sum(s.tokens), 0),
       COALESCE(sum(extract(epoch FROM COALESCE(s.finished_at, %(now)s) - s.started_at)), 0) / 60
  FROM agents_job j JOIN agents_step s ON s.job_id = j.id
 WHERE {whose} AND s.id <> %(step)s AND s.started_at IS NOT NULL AND s.kind IN ('call', 'chunk')
   AND s.started_at > %(since)s
 GROUP BY s.tool
"""
_WHOSE = {
    "job": "j.id = %(job)s",
    "owner": "j.owner_id = %(owner)s AND (j.finished_at IS NULL OR j.finished_at > %(since)s)",
    "agent": "j.agent_id = %(agent)s AND (j.finished_at IS NULL OR j.finished_at > %(since)s)",
    "tenant": "j.tenant_id IS NOT DISTINCT FROM %(tenant)s AND (j.finished_at IS NULL OR j.finished_at > %(since)s)",
}
_CHECKED_OUT = """
SELECT s.tool, s.arguments, s.result FROM agents_step s
 WHERE s.job_id = %(workspace)s AND s.tool IN ('git.checkout', 'workspace.prepare', 'git.clone', 'git.rebase')
   AND s.state IN ('succeeded', 'running', 'in_doubt', 'compensated') ORDER BY s.started_at DESC NULLS LAST LIMIT 1
"""

_used: set[tuple[Any, str]] = set()  # (agent, tool) that were used once: they stay so


def with_facts(
    given: PolicyInput, job: Job, step: Step, wanted: Collection[str], *, now: datetime, claiming: bool = False
) -> PolicyInput:
    """`given` with what the rules for its tool read (`published.Needs.facts`).

    claiming: it begins now, and calls that begin at the same moment are counted one after the other.
    """
    if not wanted:
        return given
    changes: dict[str, Any] = {}
    if step.kind != Step.Kind.CHUNK:  # a chunk's calls are told one by one
        changes |= of_arguments(given, given.arguments, wanted)
    if changes.get("target_branch", given.target_branch) is None and "branch" in wanted:
        changes["target_branch"] = checked_out(job, step)
    if "first_use" in wanted:
        changes["first_use"] = _first_use(job, step)
    if "seen" in wanted:
        changes["seen"] = labels.seen(job.pk, but=step.pk)
    if "provenance" in wanted:
        found = origins.of(job, step)
        step.provenance = found.as_json()  # for its row, and for people
        changes["unplanned"] = found.unplanned
        changes["tainted"] = None if found.tainted is None else tuple(one.at for one in found.tainted)
    accounts = sorted(fact.removeprefix("spent:") for fact in wanted if fact.startswith("spent:"))
    if accounts:
        changes["spent"] = {account: _spent(job, step, account, now=now, alone=claiming) for account in accounts}
    return replace(given, **changes)


def of_arguments(given: PolicyInput, arguments: Any, wanted: Collection[str]) -> dict[str, Any]:
    """What the arguments alone tell: programs, and the branch, None where it is the one that is checked out."""
    changes: dict[str, Any] = {}
    if "programs" in wanted:
        changes["programs"] = risk.programs_of(given.tool, arguments)
    if "branch" in wanted:
        branch = risk.branch_of(given.tool, arguments)
        changes["target_branch"] = branch if isinstance(branch, str) else None
    return changes


def checked_out(job: Job, step: Step) -> str | None:
    """The branch that the job's workspace stands on, by what the job did; None where that cannot be told."""
    if job.repository is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute(_CHECKED_OUT, {"workspace": step.workspace_of or job.workspace_of or job.pk})
        found = cursor.fetchone()
    if found is None:
        return None if job.forked_from_id or job.workspace_of or step.workspace_of else job.repository.default_branch
    tool, arguments, result = (_json(value) for value in found)
    if tool in ("workspace.prepare", "git.clone"):
        data = (result or {}).get("data") or {}
        return str(data.get("branch") or arguments.get("branch") or job.repository.default_branch)
    branch = risk.branch_of(tool, arguments)
    return branch if isinstance(branch, str) and branch else None


def tenant_name(job: Job) -> str:
    return job.tenant.name if job.tenant_id is not None and job.tenant else DEFAULT


def recorded_facts(decision: Decision) -> dict[str, Any]:
    """What a decision's record says beside policy, rule and risk, where there is any."""
    known = {
        "risk_score": decision.facts.get("score"),
        "constraints": decision.constraints,
        "gives": decision.gives,
        "unplanned": decision.facts.get("unplanned"),
        "tainted": (decision.facts.get("tainted") or [])[:20],
    }
    return {name: value for name, value in known.items() if value}


def _first_use(job: Job, step: Step) -> bool:
    if (job.agent_id, step.tool) in _used:
        return False
    with connection.cursor() as cursor:
        given: dict[str, Any] = {"tool": step.tool, "step": step.pk, "agent": job.agent_id, "owner": job.owner_id}
        cursor.execute(_USED, given)
        found = cursor.fetchone()
    if found is not None and found[0]:
        if job.agent_id is not None and len(_used) < 100_000:
            _used.add((job.agent_id, step.tool))
        return False
    return True


def _spent(job: Job, step: Step, account: str, *, now: datetime, alone: bool) -> dict[str, float]:
    """What was spent before this call. `account`: see `approvals.policy.inputs.budget_key`. alone: until this
    transaction ends nobody else who claims counts it."""
    per, hours, tools = account.split("/", 2)
    since = datetime.fromtimestamp(now.timestamp() - int(hours) * 3600 if int(hours) else 0, tz=now.tzinfo)
    patterns = Patterns(tools.split(","))
    whose: dict[str, Any] = {"job": job.pk, "owner": job.owner_id, "agent": job.agent_id, "tenant": job.tenant_id}
    with connection.cursor() as cursor:
        if alone and per != "job":  # whoever claims holds the job's lock already
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 7))", [f"{per}/{whose[per]}"])
        cursor.execute(_SPENT.format(whose=_WHOSE[per]), {**whose, "step": step.pk, "since": since, "now": now})
        rows = [row for row in cursor.fetchall() if patterns.fit(row[0])]
    return {
        "calls": sum(row[1] for row in rows),
        "tokens": int(sum(row[2] for row in rows)),
        "minutes": round(float(sum(row[3] for row in rows)), 3),
    }


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value
