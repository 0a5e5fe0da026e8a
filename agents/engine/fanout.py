"""Maps: one step that fans out over a list, in chunks.

A map's chunks are steps of their own, each with its message, lease, decision, permit and audit records; a chunk runs
its tool once for each of its items under one permit (`tools.batch`), and ends with one commit that writes a row an
item. A tool that must not run twice (ONCE) has a chunk an item. No worker runs the map itself: it stays pending, with
`ready_at` set, until its chunks have ended.

`Step.spec` of a map, as a workflow's compiler writes it:
    over: a CEL expression that gives a list, or a whole number n for 0 … n-1; or the list itself
    arguments: of the tool, a template over `item`, `index` and what every step sees (inputs, steps, job)
    chunk: items a chunk (default 100, at most 1,000); parallel: chunks under way at once (default 16)
    max_failures: items that may fail (default 0)
and once it has fanned out: items, chunks (how many of each). Of a chunk: first, the index of its first item, or indexes,
where its items do not follow each other; left_out, the indexes that policy refused.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count, Max, Q

from agents import feed
from agents.engine import expressions, facts
from agents.engine.transitions import ENGINE, move_step, step_entry, step_facts, step_target
from agents.errors import AgentsError, InvalidPlan
from agents.models import Job, MapItem, Step
from agents.states import STEP_OPEN, StepState
from approvals.policy import constraints
from approvals.policy.evaluate import Decision, PolicyInput, evaluate_each
from approvals.policy.published import Needs
from audit.append import record
from audit.canonical import canonical_json
from audit.kinds import Event
from tools import registry, risk
from tools.batch import CALLS_MAX
from tools.errors import ToolError
from tools.spec import Effect, Result, Tool

ITEMS_MAX = 100_000
CHUNK, PARALLEL = 100, 16
CALLS_BYTES = 1_048_576  # of one chunk's arguments
RESULTS_MAX, RESULTS_BYTES = 1000, 131_072  # of what later steps see of the items' results
FAILURES_TOLD = 20
_WHOLE = re.compile(r"\$\{\{\s*(item(?:\.[A-Za-z_]\w*)*|index)\s*\}\}")

_KEEP = """
INSERT INTO agents_mapitem (step_id, chunk_id, index, ok, result, error_code, error)
SELECT %s, %s, index, ok, result, error_code, error
  FROM jsonb_to_recordset(%s::jsonb) AS item(index int, ok bool, result jsonb, error_code text, error text)
ON CONFLICT (step_id, index) DO UPDATE
   SET chunk_id = excluded.chunk_id, ok = excluded.ok, result = excluded.result,
       error_code = excluded.error_code, error = excluded.error
"""


def expanded(step: Step) -> bool:
    """Has this map fanned out?"""
    return step.kind == Step.Kind.MAP and step.ready_at is not None


def expand(job: Job, step: Step, *, now: datetime, given: Mapping[int, dict[str, Any]] | None = None) -> None:
    """Makes the chunks of a pending map whose needs are met. The caller holds the job's lock, and then calls `go_on`.

    given: the items' calls by their places, in the order in which they are to run, instead of what the spec says.
    A list that cannot be made, is too long, or has an item that the tool does not take, fails the step.
    """
    spec = step.spec or {}
    try:
        tool = registry.get(step.tool)
        calls = list(given.values()) if given is not None else calls_of(job, step, tool)
        chunks = _chunks(step, tool, calls, None if given is None else list(given))
    except (expressions.ExpressionFailed, InvalidPlan) as error:
        _fail(step, "bad_map", error.message, now=now)
        return
    last = Step.objects.filter(job=job).aggregate(last=Max("seq"))["last"] or 0
    for seq, chunk in enumerate(chunks, start=last + 1):
        chunk.seq, chunk.created_at = seq, now
    Step.objects.bulk_create(chunks, batch_size=500)
    spec = {**spec, "items": len(calls), "chunks": len(chunks)}
    Step.objects.filter(pk=step.pk).update(spec=spec, ready_at=now, started_at=now)
    step.spec, step.ready_at, step.started_at = spec, now, now
    record_chunks(step, chunks, items=len(calls))
    feed.append(job.pk, [step_entry(step)], now=now)


def record_chunks(step: Step, chunks: Sequence[Step], *, items: int) -> None:
    """Says in the audit log what a map has fanned out into."""
    digest = hashlib.sha256(canonical_json([chunk.arguments for chunk in chunks])).hexdigest()
    record(
        Event.STEP_EXPANDED,
        actor=ENGINE,
        target=step_target(step),
        context=step_facts(step, items=items, chunks=len(chunks), calls_sha256=digest),
    )


def go_on(job: Job, step: Step, *, now: datetime) -> list[Step]:
    """The chunks that may begin now, for the caller to let through the gate; ends the map where none is left."""
    counted = step.chunks.aggregate(
        pending=Count("pk", filter=Q(state=StepState.PENDING)),
        busy=Count("pk", filter=Q(state__in=STEP_OPEN - {StepState.PENDING})),
    )
    if counted["pending"]:
        room = int((step.spec or {}).get("parallel") or PARALLEL) - counted["busy"]
        return list(step.chunks.filter(state=StepState.PENDING).order_by("seq")[: max(0, room)])
    if not counted["busy"]:
        _finish(step, now=now)
    return []


def decide(step: Step, given: PolicyInput, versions: frozenset[UUID], needs: Needs, place: risk.Place) -> Decision:
    """What this set of policies says of a chunk: the strictest answer of its items, with the constraints of all.

    Items that are denied while others are not leave the chunk here, each with its row; the others' call is what is
    decided, asked about and permitted.
    """
    tool = registry.get(step.tool)
    calls: list[dict[str, Any]] = step.arguments["calls"]
    opinion = risk.opinion_of(step.opinion)
    asked: list[tuple[dict[str, Any], str, dict[str, Any]]] = []
    for arguments in calls:
        score = risk.assess(tool, arguments, place, opinion=opinion)
        more = {}
        if needs.per_call:
            more = {"risk_score": score.score, **facts.of_arguments(given, arguments, needs.facts)}
        asked.append((arguments, str(score.level), more))
    decisions = evaluate_each(versions, given, asked)
    denied = [index for index, decision in enumerate(decisions) if decision.effect == "deny"]
    if len(denied) == len(calls):
        return decisions[0]
    if denied:
        _leave_out(step, denied, decisions)
    rest = [decision for decision in decisions if decision.effect != "deny"]
    strictest = max(rest, key=lambda one: (one.effect == "ask", one.quorum, -one.expires_s))
    different = list({id(one): one for one in rest}.values())
    if len(different) == 1:
        return strictest
    return replace(
        strictest,
        constraints=constraints.merged(one.constraints for one in different),
        gives=sorted({label for one in different for label in one.gives}),
    )


def keep(chunk: Step, result: Result) -> Result:
    """Writes the rows of a chunk's items, and gives the result without them."""
    indexes = indexes_of(chunk)
    if chunk.kind == Step.Kind.CHUNK:
        data = {name: value for name, value in result.data.items() if name != "items"}
        items: Sequence[dict[str, Any]] = result.data.get("items", [])
    else:  # a ONCE tool's only item
        data = dict(result.data)
        items = [{"ok": result.ok, "summary": result.summary, "data": data, "text": result.text}]
    _write(chunk, (_row(index, item) for index, item in zip(indexes, items, strict=False)))
    return replace(result, data=data)


def indexes_of(chunk: Step) -> list[int]:
    """The places in the list of a chunk's calls, in their order."""
    spec = chunk.spec or {}
    left_out = set(spec.get("left_out", []))
    if "indexes" in spec:
        return [index for index in spec["indexes"] if index not in left_out]
    size = len(chunk.arguments["calls"]) if chunk.kind == Step.Kind.CHUNK else 1
    first = int(spec["first"])
    return [index for index in range(first, first + size + len(left_out)) if index not in left_out]


def calls_of(job: Job, step: Step, tool: Tool) -> list[dict[str, Any]]:
    """The arguments of each item's call.

    Raises:
        ExpressionFailed, InvalidPlan: the list cannot be made, is too long, or has an item that the tool does not take.
    """
    scope = expressions.scope(job)
    items = list_of(step, scope)
    template = (step.spec or {}).get("arguments") or {}
    resolve = _plain(template) or expressions.item_template(template, scope)
    calls = []
    for index, item in enumerate(items):
        try:
            arguments = resolve(item, index)
            registry.validate(tool, arguments)
        except (AgentsError, ToolError) as error:
            field = getattr(error, "field", "")
            raise InvalidPlan(f"Item {index}: {f'{field}: ' if field else ''}{error.message}") from error
        calls.append(arguments)
    return calls


def list_of(step: Step, scope: expressions.Scope) -> list[Any]:
    """What the map goes over.

    Raises:
        ExpressionFailed, InvalidPlan: it cannot be made, is no list, or is too long.
    """
    spec = step.spec or {}
    over = spec.get("over")
    items = expressions.value(over, scope) if isinstance(over, str) else over
    if isinstance(items, int) and not isinstance(items, bool):
        if items > ITEMS_MAX:
            raise InvalidPlan(f"A map has at most {ITEMS_MAX:,} items, not {items:,}.")
        items = list(range(items))
    if not isinstance(items, list):
        raise InvalidPlan(f"`over` gives {type(items).__name__}, not a list.")
    if len(items) > ITEMS_MAX:
        raise InvalidPlan(f"A map has at most {ITEMS_MAX:,} items, not {len(items):,}.")
    return items


def _plain(template: dict[str, Any]) -> Callable[[Any, int], dict[str, Any]] | None:
    """Fills in a template whose only expressions are `item`, `item.field` or `index`, each a whole value of it.

    None where there are others: then CEL works them out, for many times the price.
    """
    paths: dict[str, list[str]] = {}
    for name, value in template.items():
        if isinstance(value, str) and (found := _WHOLE.fullmatch(value)):
            paths[name] = found[1].split(".")
        elif expressions.templated(value):
            return None

    def fill(item: Any, index: int) -> dict[str, Any]:
        arguments = dict(template)
        for name, path in paths.items():
            arguments[name] = index if path == ["index"] else _field(item, path[1:])
        return arguments

    return fill


def _field(item: Any, path: Sequence[str]) -> Any:
    for name in path:
        if not isinstance(item, dict) or name not in item:
            raise expressions.ExpressionFailed(f"There is no 'item.{'.'.join(path)}'.")
        item = item[name]
    return item


def _chunks(
    step: Step, tool: Tool, calls: Sequence[dict[str, Any]], indexes: Sequence[int] | None = None
) -> list[Step]:
    """Unsaved rows, in the list's order. indexes: the calls' places, where they are not 0, 1, 2 …"""
    alone = tool.asks_person or _once(tool, calls)
    size = 1 if alone else max(1, min(int((step.spec or {}).get("chunk") or CHUNK), CALLS_MAX))
    rows = []
    for number, first in enumerate(range(0, len(calls), size), start=1):
        part = list(calls[first : first + size])
        if not alone and len(canonical_json(part)) > CALLS_BYTES:
            raise InvalidPlan(f"A chunk's arguments are over {CALLS_BYTES // 1024} KiB: take a smaller chunk.")
        place = {"first": first} if indexes is None else {"indexes": list(indexes[first : first + size])}
        rows.append(chunk_of(step, tool, number, part, place, alone=alone))
    return rows


def _once(tool: Tool, calls: Sequence[Mapping[str, Any]]) -> bool:
    return any(tool.effect_of(call) is Effect.ONCE for call in calls)


def chunk_of(
    step: Step, tool: Tool, number: int, calls: list[dict[str, Any]], spec: dict[str, Any], *, alone: bool = False
) -> Step:
    """The unsaved row of a map's chunk, without its place in the job. alone: it is the step of one call."""
    return Step(
        kind=Step.Kind.CALL if alone else Step.Kind.CHUNK,
        job_id=step.job_id,
        parent=step,
        key=f"{step.key}.{number}",
        tool=step.tool,
        schema_version=tool.schema_version,
        arguments=calls[0] if alone else {"calls": calls},
        spec=spec,
        reason=step.reason,
        effect=str(Effect.ONCE if _once(tool, calls) else tool.effect),
        queue=tool.queue,
        retry=step.retry,
        timeout_s=step.timeout_s,
        max_attempts=step.max_attempts,
        workspace_of=step.workspace_of,
        compensates=step.compensates,
    )


def _leave_out(chunk: Step, denied: Sequence[int], decisions: Sequence[Decision]) -> None:
    indexes = indexes_of(chunk)
    _write(
        chunk,
        (
            {
                "index": indexes[place],
                "ok": False,
                "result": {},
                "error_code": "policy_denied",
                "error": decisions[place].reason,
            }
            for place in denied
        ),
    )
    gone = set(denied)
    calls = [one for place, one in enumerate(chunk.arguments["calls"]) if place not in gone]
    spec = {
        **(chunk.spec or {}),
        "left_out": sorted({*(chunk.spec or {}).get("left_out", []), *map(indexes.__getitem__, denied)}),
    }
    chunk.arguments, chunk.spec = {"calls": calls}, spec
    Step.objects.filter(pk=chunk.pk).update(arguments=chunk.arguments, spec=spec)


def _row(index: int, item: dict[str, Any]) -> dict[str, Any]:
    result = {name: item[name] for name in ("summary", "data", "text") if item.get(name)}
    return {
        "index": index,
        "ok": item["ok"],
        "result": result,
        "error_code": item.get("error_code", "" if item["ok"] else "not_ok"),
        "error": item.get("error", ""),
    }


def _write(chunk: Step, rows: Iterable[dict[str, Any]]) -> None:
    text = canonical_json(list(rows)).decode()
    with connection.cursor() as cursor:
        cursor.execute(_KEEP, [chunk.parent_id, chunk.pk, text])


def _finish(step: Step, *, now: datetime) -> None:
    """Ends a map whose chunks have ended: succeeded where no more items failed than may."""
    spec = step.spec or {}
    items = int(spec["items"])
    for chunk in step.chunks.exclude(state=StepState.SUCCEEDED):
        _write_rest(step, chunk)
    rows = MapItem.objects.filter(step=step)
    succeeded = rows.filter(ok=True).count()
    data: dict[str, Any] = {"items": items, "succeeded": succeeded, "failed": items - succeeded}
    data |= _results(step)
    failures = list(rows.filter(ok=False).order_by("index").values("index", "error_code", "error")[:FAILURES_TOLD])
    data["failures"] = [{**one, "error": one["error"][:300]} for one in failures]
    ok = items - succeeded <= int(spec.get("max_failures") or 0)
    summary = f"{succeeded:,} of {items:,} items succeeded"
    result = {"ok": ok, "summary": summary, "data": data, "text": "", "exit_code": None}
    result |= {"truncated_bytes": 0, "sandbox": {}}
    if not ok and failures:
        summary += f"; item {failures[0]['index']}: {failures[0]['error'][:300]}"
    move_step(
        step,
        StepState.SUCCEEDED if ok else StepState.FAILED,
        now=now,
        event=Event.STEP_CONFIRMED if ok else Event.STEP_FAILED,
        outcome="ok" if ok else "failed",
        context={"items": items, "succeeded": succeeded},
        payload={"summary": summary},
        result=result,
        error_code="" if ok else "items_failed",
        error="" if ok else f"{summary}.",
    )


def _write_rest(step: Step, chunk: Step) -> None:
    """Rows for the items that a chunk did not come to."""
    known = set(MapItem.objects.filter(step=step, chunk=chunk).values_list("index", flat=True))
    error = {"ok": False, "result": {}, "error_code": chunk.error_code or str(chunk.state), "error": chunk.error}
    _write(chunk, ({"index": index, **error} for index in indexes_of(chunk) if index not in known))


def _results(step: Step) -> dict[str, Any]:
    """`results`: by place, each item's data (or summary), None where it failed; only where they are few and small."""
    if int((step.spec or {})["items"]) > RESULTS_MAX:
        return {}
    found: list[Any] = []
    size = 0
    for ok, result in MapItem.objects.filter(step=step).order_by("index").values_list("ok", "result"):
        one = (result.get("data") or result.get("summary")) if ok else None
        size += len(canonical_json(one))
        if size > RESULTS_BYTES:
            return {}
        found.append(one)
    return {"results": found}


def _fail(step: Step, code: str, message: str, *, now: datetime) -> None:
    move_step(
        step,
        StepState.FAILED,
        now=now,
        event=Event.STEP_FAILED,
        outcome="failed",
        context={"code": code},
        payload={"error": message},
        error_code=code,
        error=message[:4000],
        error_class="bad_input",
    )
