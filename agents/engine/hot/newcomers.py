"""A new plain job: its rows, its first decisions and all their records by three statements."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Model
from psycopg import Cursor

from agents.connections import Raw, raw_connection
from agents.engine import backlog, dispatch
from agents.engine.hot.rows import JobRow, StepRow
from agents.engine.hot.successes import decide, release
from agents.engine.hot.writes import Writes
from agents.models import Job, Step
from approvals.policy import published
from approvals.policy.evaluate import Decision
from audit.actor import Actor, Target
from audit.enrolment import process_key
from audit.kinds import Event

# The newcomer's job and steps; what is inserted as JSON has every column of its table.
_JOB = "INSERT INTO agents_job SELECT * FROM jsonb_populate_record(NULL::agents_job, %s::jsonb)"
_STEPS = "INSERT INTO agents_step SELECT * FROM jsonb_populate_recordset(NULL::agents_step, %s::jsonb)"
# What waits for its release from the start, where its queue took nothing a moment ago.
_WAITING = "UPDATE agents_step SET dispatched_at = NULL WHERE id = ANY(%s)"
_KNOWN = f"""
SELECT ARRAY(SELECT g.name::text FROM auth_user_groups m JOIN auth_group g ON g.id = m.group_id WHERE m.user_id = %s),
       ARRAY({published.SET}), (SELECT t.name FROM agents_tenant t WHERE t.id = %s)
"""  # noqa: S608 constants only


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the records of a new job and of its steps say beside what all of them do: (context, payload)."""

    job: tuple[Mapping[str, Any], Mapping[str, Any]]
    steps: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]


def create(job: Job, steps: Sequence[Step], said: Said, *, actor: Actor, now: datetime) -> bool:
    """Writes an unsaved job and its unsaved steps in the caller's transaction, queues what needs nothing, and publishes
    after commit. False: it is not plain, and nothing was written."""
    key = process_key()
    if not key.enrolled or not _plain(job):
        return False
    raw = raw_connection()
    row = _job_row(job, raw)
    pending = [(step, _step_row(step)) for step in steps]
    free = [(step, one) for step, one in pending if not step.needs]
    decisions: list[tuple[Decision, str]] = []
    for _, one in free:
        decided = None if one.special or one.seen else decide(row, one, now)
        if decided is None:
            return False
        decisions.append(decided)
    writes = Writes(key, now=now, lease_s=settings.STEP_LEASE_S)
    writes.tell(row)
    context, payload = said.job
    target = Target(type="job", id=str(job.pk))
    writes.record(Event.JOB_SUBMITTED, actor=actor, target=target, context=context, payload=payload)
    for (_, one), (context, payload) in zip(pending, said.steps, strict=True):
        target = Target(type="step", id=str(one.id))
        writes.record(Event.STEP_PROPOSED, actor=actor, target=target, context=context, payload=payload)
        writes.tell(row, one)
    for (_, one), (decision, risk) in zip(free, decisions, strict=True):
        release(row, one, decision, risk, writes)
    waiting = [one for _, one in free if backlog.lately_shut(one.queue)]
    with connection.wrap_database_errors, raw.pipeline():
        Cursor(raw).execute(_JOB, [_json([job])[1:-1]], prepare=True)
        Cursor(raw).execute(_STEPS, [_json(steps)], prepare=True)
        writes.write(raw, {})
        if waiting:
            Cursor(raw).execute(_WAITING, [[one.id for one in waiting]], prepare=True)
    job._state.adding = False
    messages = [(one.queue, (dispatch.RUN, one.id, one.attempt)) for _, one in free if one not in waiting]
    transaction.on_commit(partial(dispatch.publish_all, messages, {job.pk: row.feed_seq}))
    for queue in {one.queue for one in waiting}:
        transaction.on_commit(partial(backlog.note, queue))
    return True


def _plain(job: Job) -> bool:
    special = job.concurrency_key or job.starts_at or job.grant or job.workspace_of or job.forked_from_id
    return not special and not backlog.capped(job.tenant_id) and connection.in_atomic_block


def _job_row(job: Job, raw: Raw) -> JobRow:
    cursor = Cursor(raw)
    with connection.wrap_database_errors:
        cursor.execute(_KNOWN, [job.owner_id, job.tenant_id], prepare=True)
        found = cursor.fetchone()
    assert found is not None
    groups, policies, tenant = found
    return JobRow(
        id=job.pk,
        kind=str(job.kind),
        state=str(job.state),
        cancel_requested=False,
        owner_id=job.owner_id,
        owner=job.owner.get_username(),
        labels=json.dumps(job.labels),
        feed_seq=0,
        tokens_used=0,
        agent=job.agent.name if job.agent else "",
        repository=job.repository.name if job.repository else "",
        branch=job.repository.default_branch if job.repository else "",
        environment=job.repository.environment if job.repository else "",
        tenant_id=job.tenant_id,
        tenant=tenant,
        special=False,
        ends_specially=False,
        groups=groups,
        policies=policies,
        limits=[],
    )


def _step_row(step: Step) -> StepRow:
    special = step.kind != Step.Kind.CALL or step.parent_id or step.template is not None or step.condition or step.spec
    return StepRow(
        id=step.pk,
        job_id=step.job_id,
        seq=step.seq,
        key=step.key,
        tool=step.tool,
        schema_version=step.schema_version,
        arguments=json.dumps(step.arguments),
        needs=list(step.needs),
        needs_success=step.needs_success,
        state=str(step.state),
        attempt=0,
        cancel_requested=False,
        delayed=False,
        permit_id=None,
        target_state="{}",
        preview_digest="",
        effect=step.effect,
        queue=step.queue,
        special=bool(special or step.compensates_id or step.workspace_of or step.opinion),
        decision=None,
    )


def _json(rows: Sequence[Model]) -> str:
    columns = [(field.column, field.attname) for field in rows[0]._meta.concrete_fields] if rows else []
    return json.dumps([{column: getattr(row, name) for column, name in columns} for row in rows], default=str)
