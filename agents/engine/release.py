"""Fair release: a queue at the broker is kept short, and what waits behind it is chosen in PostgreSQL.

A step that may run is published at once while its queue is short and nobody waits. Else its row waits (queued, with no
`dispatched_at`), and is released when workers have taken from the queue, in this order:

1. by priority, 0 before 9; each `RELEASE_AGEING_S` that a step has waited counts as one priority better;
2. among equals by tenant, each by its weight (start-time fair queueing: `FairQueue`);
3. within a tenant the oldest first.

Redis holds a mark for a queue behind which somebody waits. It is a hint: where it is lost, the sweeper releases.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from agents.engine import backlog, dispatch
from agents.engine.backlog import BATCH
from agents.engine.fair import Lane, Share, Waiting, choose
from agents.models import FairQueue, Step, Tenant
from agents.states import STEP_SENT, StepState

STOPPED_FOR_MS = 5000  # a releaser that was stopped in mid-transaction gives its locks back after this

# The predicate of the index `step_lanes`.
_WAITS = """dispatched_at IS NULL
    AND (state IN ('queued', 'ready') OR (NOT (error_code = 'needs_person') AND state = 'in_doubt'))"""
_DUE = "COALESCE(not_before, ready_at, created_at)"

_LANES = f"""
WITH RECURSIVE lanes AS (
    (SELECT COALESCE(tenant_id, 0) AS tenant, COALESCE(priority, 5) AS priority
       FROM agents_step WHERE queue = %(queue)s AND {_WAITS} ORDER BY 1, 2 LIMIT 1)
    UNION ALL
    SELECT later.tenant, later.priority FROM lanes, LATERAL (
        SELECT COALESCE(tenant_id, 0) AS tenant, COALESCE(priority, 5) AS priority
          FROM agents_step
         WHERE queue = %(queue)s AND {_WAITS}
           AND (COALESCE(tenant_id, 0), COALESCE(priority, 5)) > (lanes.tenant, lanes.priority)
         ORDER BY 1, 2 LIMIT 1
    ) AS later
)
SELECT lanes.tenant, lanes.priority, waiting.id, waiting.due FROM lanes, LATERAL (
    SELECT id, {_DUE} AS due FROM agents_step
     WHERE queue = %(queue)s AND COALESCE(tenant_id, 0) = lanes.tenant AND COALESCE(priority, 5) = lanes.priority
       AND {_WAITS} AND {_DUE} <= %(now)s
     ORDER BY {_DUE}, id LIMIT %(limit)s
) AS waiting
"""  # noqa: S608 constants only

_MARK_SENT = f"""
WITH mine AS (
    SELECT id FROM agents_step WHERE id = ANY(%(ids)s) AND {_WAITS} ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE agents_step AS s SET dispatched_at = %(now)s FROM mine WHERE s.id = mine.id
RETURNING s.id, s.attempt, s.state
"""  # noqa: S608 constants only

# Steps of capped tenants that run, or that a worker may begin at any moment.
_BUSY = """
SELECT tenant_id, count(*) FROM agents_step
 WHERE (state = 'running' OR (state IN ('queued', 'ready') AND dispatched_at IS NOT NULL)) AND tenant_id = ANY(%s)
 GROUP BY tenant_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """sent: messages published; left: others could follow when there is room; blocked: others wait for a tenant's bound."""

    sent: int = 0
    left: bool = False
    blocked: bool = False


def release(queue: str, *, now: datetime) -> Released:
    """Publishes what is next behind `queue`, as far as there is room; one caller at a time works, others do nothing.

    Raises:
        RedisError, OSError: Redis is away.
    """
    free = min(backlog.room(queue), BATCH)
    if not free:
        return Released(left=True)
    seen = backlog.marked(queue)
    picked = _pick(queue, free, now=now)
    if picked is None:
        return Released(left=True)
    messages, left, blocked = picked
    sent = _publish(queue, messages)
    left = left or sent < len(messages)
    if left:
        backlog.set_mark(queue)
    elif seen is not None:
        backlog.unmark(queue, seen)
    return Released(sent=sent, left=left, blocked=blocked)


def release_all(now: datetime, *, most: int = 4 * BATCH) -> int:
    """The sweeper's net: releases behind every queue, whatever Redis remembers. How many it sent."""
    total = 0
    for queue in waiting_queues():
        while total < most:
            done = release(queue, now=now)
            total += done.sent
            if done.sent == 0 or not done.left:
                break
    return total


def waiting_queues() -> list[str]:
    """Queues behind which rows wait."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT queue FROM agents_step WHERE {_WAITS}")  # noqa: S608 a constant
        return [row[0] for row in cursor.fetchall()]


Message = tuple[str, UUID, int]


@transaction.atomic
def _pick(queue: str, free: int, *, now: datetime) -> tuple[list[Message], bool, bool] | None:
    """Takes the next rows: (task, step id, attempt) in order, whether more could follow, whether some are held back.
    None: somebody else releases behind this queue."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = {STOPPED_FOR_MS}")
        cursor.execute(
            "INSERT INTO agents_fairqueue (queue, clock, tags) VALUES (%s, 0, '{}') ON CONFLICT DO NOTHING", [queue]
        )
        state = FairQueue.objects.select_for_update(skip_locked=True).filter(pk=queue).first()
        if state is None:
            return None
        lanes = _lanes(cursor, queue, free, now=now)
        if not lanes:
            return [], False, False
        shares = _shares(cursor, {lane.tenant for lane in lanes})
        ages = timedelta(seconds=max(settings.RELEASE_AGEING_S, 1))
        chosen = choose(lanes, shares, free, clock=state.clock, tags=state.tags, now=now, ages=ages)
        if not chosen.ids:
            return [], chosen.more, chosen.blocked
        cursor.execute(_MARK_SENT, {"ids": chosen.ids, "now": now})
        rows = {row[0]: row for row in cursor.fetchall()}
    FairQueue.objects.filter(pk=queue).update(clock=chosen.clock, tags=chosen.tags)
    more = chosen.more or any(len(lane.waiting) >= free for lane in lanes)
    messages = [
        (dispatch.PROBE if rows[one][2] == StepState.IN_DOUBT else dispatch.RUN, one, rows[one][1])
        for one in chosen.ids
        if one in rows
    ]
    return messages, more, chosen.blocked


def _lanes(cursor: Any, queue: str, limit: int, *, now: datetime) -> list[Lane]:
    cursor.execute(_LANES, {"queue": queue, "now": now, "limit": limit})
    lanes: dict[tuple[int, int], Lane] = {}
    for tenant, priority, step_id, due in cursor.fetchall():
        lane = lanes.setdefault((tenant, priority), Lane(tenant=tenant, priority=priority, waiting=[]))
        lane.waiting.append(Waiting(id=step_id, due=due))
    return list(lanes.values())


def _shares(cursor: Any, tenants: set[int]) -> dict[int, Share]:
    rows = {one.pk: one for one in Tenant.objects.filter(pk__in=tenants)}
    bounds = {pk: one.max_running for pk, one in rows.items() if one.max_running is not None}
    busy: dict[int, int] = {}
    if bounds:
        cursor.execute(_BUSY, [list(bounds)])
        busy = dict(cursor.fetchall())
    return {
        pk: Share(weight=one.weight, free=max(0, bounds[pk] - busy.get(pk, 0)) if pk in bounds else None)
        for pk, one in rows.items()
    }


def _publish(queue: str, messages: list[Message]) -> int:
    """How many the broker took; the others wait again."""
    sent = dispatch.send_all(queue, messages)
    if sent < len(messages):
        unsent = {one: attempt for _, one, attempt in messages[sent:]}
        for step_id, attempt in unsent.items():
            Step.objects.filter(pk=step_id, attempt=attempt, state__in=STEP_SENT).update(dispatched_at=None)
    return sent
