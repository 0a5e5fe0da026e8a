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
# Told labels, and the calls whose rows do not say theirs. What others wrote fills the goal and the inputs of a job that a
# webhook or an event rule started.
_SEEN = f"""
{FAMILY}, mine AS (
  SELECT s.* FROM family JOIN agents_step s ON s.job_id = family.id WHERE s.id <> %(step)s
), told(label) AS (
  SELECT unnest(labels) FROM mine WHERE labels IS NOT NULL
  UNION
  SELECT jsonb_array_elements_text(decision->'gives') FROM mine
   WHERE decision->'gives' IS NOT NULL AND (attempt > 0 OR kind = 'job' AND started_at IS NOT NULL)
  UNION
  SELECT 'untrusted' FROM family JOIN agents_job j ON j.id = family.id WHERE j.trigger ^@ 'webhook:' OR j.trigger ^@ 'rule:'
)
SELECT label, NULL, NULL, NULL::jsonb, NULL::jsonb FROM told
UNION ALL
SELECT NULL, tool, kind, arguments, result->'data' FROM mine WHERE labels IS NULL AND attempt > 0 AND kind <> 'map'
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
        cursor.execute(_SEEN, {"job": job_id, "step": but or UUID(int=0)})
        rows = cursor.fetchall()
    told = {label for label, *_ in rows if label is not None}
    return frozenset(told.union(*(_untold(row) for label, *row in rows if label is None)))


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
