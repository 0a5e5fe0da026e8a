"""The labels of steps (`tools.labels`), and of all that a job has read through its family."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from django.db import connection

from agents.models import Step
from tools import labels, registry
from tools.errors import UnknownTool
from tools.spec import Result

EVERY = labels.LABELS

# A label sticks to the whole family: a job reads its parent's inputs, its children's reports and, where it was forked or
# works in another's workspace, their files; a turn of a conversation reads what the turns before it said. Up to the
# oldest, and from there down again.
FAMILY = """
WITH RECURSIVE up(id) AS (
  SELECT %(job)s::uuid
  UNION
  SELECT a.id FROM up JOIN agents_job j ON j.id = up.id
    CROSS JOIN LATERAL (
      SELECT unnest(ARRAY[j.parent_id, j.forked_from_id, j.workspace_of]) AS id
      UNION ALL
      SELECT o.id FROM agents_job o
       WHERE j.conversation_id IS NOT NULL AND o.conversation_id = j.conversation_id
    ) AS a
   WHERE a.id IS NOT NULL
), family(id) AS (
  SELECT id FROM up
  UNION
  SELECT j.id FROM family f JOIN agents_job j ON j.parent_id = f.id
)
"""
# What others wrote fills the goal and the inputs of a job that a webhook started.
_SEEN = f"""
{FAMILY}
SELECT unnest(s.labels) AS label FROM family JOIN agents_step s ON s.job_id = family.id
 WHERE s.labels IS NOT NULL AND s.id <> %(step)s
UNION
SELECT jsonb_array_elements_text(s.decision->'gives') FROM family JOIN agents_step s ON s.job_id = family.id
 WHERE s.id <> %(step)s AND s.decision->'gives' IS NOT NULL
   AND (s.attempt > 0 OR s.kind = 'job' AND s.started_at IS NOT NULL)
UNION
SELECT 'untrusted' FROM family JOIN agents_job j ON j.id = family.id WHERE j.trigger LIKE 'webhook:%%'
"""  # noqa: S608 constants only
_UNTOLD = f"""
{FAMILY}
SELECT s.tool, s.kind, s.arguments, s.result->'data' FROM family JOIN agents_step s ON s.job_id = family.id
 WHERE s.labels IS NULL AND s.attempt > 0 AND s.id <> %(step)s AND s.kind <> 'map'
"""  # noqa: S608 constants only


class Called(Protocol):
    """A step, as a row of the ORM or of the hot path."""

    tool: str
    arguments: Any


def of_call(tool: str, arguments: Mapping[str, Any], *, many: bool = False) -> frozenset[str]:
    """What a call means whatever comes back; of a tool that is gone, everything. many: of a chunk's calls together."""
    try:
        known = registry.get(tool)
    except UnknownTool:
        return EVERY
    calls = arguments.get("calls") if many else None
    each = calls if isinstance(calls, list) else [arguments]
    return frozenset().union(*(labels.of_call(known, one) for one in each if isinstance(one, Mapping)))


def of_result(step: Called, result: Result) -> list[str]:
    """What a step's row says once its call succeeded."""
    many = getattr(step, "kind", "call") == "chunk"
    return sorted(of_call(step.tool, step.arguments, many=many) | labels.of_data(result.data))


def of_step(step: Step) -> frozenset[str]:
    """Of a step as its row is now: what it said at its end, else what its call means."""
    if step.labels is not None:
        return frozenset(step.labels)
    data = step.result.get("data") if step.attempt > 0 and isinstance(step.result, dict) else None
    return of_call(step.tool, step.arguments, many=step.kind == Step.Kind.CHUNK) | labels.of_data(data)


def seen(job_id: UUID, *, but: UUID | None = None) -> frozenset[str]:
    """The labels of all calls of the job's family that have begun, and those that policies gave them. but: leaves out
    this step's."""
    with connection.cursor() as cursor:
        given = {"job": job_id, "step": but or UUID(int=0)}
        cursor.execute(_SEEN, given)
        found = {row[0] for row in cursor.fetchall()}
        if not found >= EVERY:
            cursor.execute(_UNTOLD, given)
            found = found.union(*(_untold(row) for row in cursor.fetchall()))
    return frozenset(found)


def family(job_id: UUID) -> list[UUID]:
    """The job and all whose labels are its own too."""
    with connection.cursor() as cursor:
        cursor.execute(f"{FAMILY} SELECT id FROM family", {"job": job_id})  # noqa: S608 a constant
        return [row[0] for row in cursor.fetchall()]


def untrusted(job_id: UUID) -> bool:
    """Has the job read anything that others may have written, by itself or through its family?"""
    return labels.UNTRUSTED in seen(job_id)


def _untold(row: Sequence[Any]) -> frozenset[str]:
    tool, kind, arguments, data = (_json(value) for value in row)
    return of_call(tool, arguments or {}, many=kind == "chunk") | labels.of_data(data)


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value
