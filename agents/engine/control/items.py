"""A map that is retried: exactly its failed items run again; the rows of the others stay."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Max

from agents import feed
from agents.engine import expressions, fanout
from agents.engine.transitions import step_entry
from agents.errors import InvalidPlan
from agents.models import Job, MapItem, Step
from agents.states import StepState
from tools import registry
from tools.batch import CALLS_MAX
from tools.errors import UnknownTool


def again(job: Job, step: Step, chunks: Sequence[Step], *, now: datetime) -> None:
    """Makes new chunks for the items that failed in chunks that succeeded. Of `chunks`, which did not succeed and run
    again, those that had come to some of their items keep the others alone.

    step: a map that has fanned out and is pending again. The caller holds the job's lock, and then advances the job.
    """
    _narrow(step, chunks)
    rows = MapItem.objects.filter(step=step, ok=False, chunk__state=StepState.SUCCEEDED)
    failed = dict(rows.order_by("index").values_list("index", "chunk_id"))
    calls = _calls(job, step, failed) if failed else {}
    if not calls:
        return
    made = _chunks(step, calls)
    last = Step.objects.filter(job=job).aggregate(last=Max("seq"))["last"] or 0
    for seq, chunk in enumerate(made, start=last + 1):
        chunk.seq, chunk.created_at = seq, now
    Step.objects.bulk_create(made, batch_size=500)
    step.spec = {**(step.spec or {}), "chunks": int((step.spec or {})["chunks"]) + len(made)}
    Step.objects.filter(pk=step.pk).update(spec=step.spec)
    fanout.record_chunks(step, made, items=len(calls))
    feed.append(job.pk, [step_entry(step)], now=now)


def _narrow(step: Step, chunks: Sequence[Step]) -> None:
    """Leaves out what has gone well before a chunk was stopped."""
    rows = MapItem.objects.filter(step=step, ok=True, chunk__state=StepState.PENDING)
    good: dict[Any, set[int]] = defaultdict(set)
    for chunk_id, index in rows.values_list("chunk_id", "index"):
        good[chunk_id].add(index)
    for chunk in chunks:
        if chunk.pk not in good or chunk.kind != Step.Kind.CHUNK:
            continue
        pairs = list(zip(fanout.indexes_of(chunk), chunk.arguments["calls"], strict=True))
        left = [(index, call) for index, call in pairs if index not in good[chunk.pk]]
        if not left:
            continue
        chunk.arguments = {"calls": [call for _, call in left]}
        chunk.spec = {**(chunk.spec or {}), "indexes": [index for index, _ in left]}
        Step.objects.filter(pk=chunk.pk).update(arguments=chunk.arguments, spec=chunk.spec)


def _calls(job: Job, step: Step, failed: Mapping[int, UUID | None]) -> dict[int, dict[str, Any]]:
    """By place in the list: from the chunk that ran it; for one that policy refused then, from the list itself.

    failed: the chunk of each.
    """
    found: dict[int, dict[str, Any]] = {}
    for chunk in Step.objects.filter(pk__in=set(failed.values())).defer("result").iterator(chunk_size=50):
        calls = dict(zip(fanout.indexes_of(chunk), chunk.arguments["calls"], strict=True))
        found |= {index: call for index, call in calls.items() if failed.get(index) == chunk.pk}
    missing = [index for index in failed if index not in found]
    if missing:
        whole = _whole_list(job, step)
        found |= {index: whole[index] for index in missing if index < len(whole)}
    return dict(sorted(found.items()))


def _whole_list(job: Job, step: Step) -> list[dict[str, Any]]:
    """Every call anew; none where the list is no longer what it was."""
    try:
        calls = fanout.calls_of(job, step, registry.get(step.tool))
    except (expressions.ExpressionFailed, InvalidPlan, UnknownTool):
        return []
    return calls if len(calls) == int((step.spec or {})["items"]) else []


def _chunks(step: Step, calls: Mapping[int, dict[str, Any]]) -> list[Step]:
    tool = registry.get(step.tool)
    size = max(1, min(int((step.spec or {}).get("chunk") or fanout.CHUNK), CALLS_MAX))
    indexes = list(calls)
    number = int((step.spec or {})["chunks"])
    made = []
    for first in range(0, len(indexes), size):
        part = indexes[first : first + size]
        number += 1
        made.append(fanout.chunk_of(step, tool, number, [calls[index] for index in part], {"indexes": part}))
    return made
