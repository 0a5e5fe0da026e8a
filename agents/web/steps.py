"""A job's steps as its page shows them: rows with lanes, and the panel of the chosen one."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agents.engine.failures import outlook
from agents.models import Attempt, Job, LlmCall, Step
from agents.states import STEP_DONE, StepState
from agents.web.checks import Checks, checks_of
from agents.web.exposure import Exposure, exposure_of
from agents.web.labels import STEP_LABELS, command, describe, step_badge, step_label, under_way
from agents.web.maps import Progress, chunks_to_show, progress_of, spec_of
from agents.web.reached import Reached, reached
from agents.web.timeline import Axis, Bar, Span, Tick, bars
from agents.web.words import between, duration, readable, size
from approvals.models import ApprovalRequest
from approvals.visible import visible

THINK, DRAFT = "llm.think", "llm.draft_workflow"
ARGUMENTS_LIMIT_CHARS = 40_000
OUTPUT_LIMIT_CHARS = 100_000  # of a result's text on the page; the API has all of it

_RUN_KINDS = {
    StepState.FAILED: "failed",
    StepState.REFUSED: "failed",
    StepState.CANCELLED: "stopped",
    StepState.IN_DOUBT: "doubt",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A step in the list."""

    step: Step
    what: str
    label: str
    short: str
    badge: str
    future: bool
    bars: list[Bar]
    ran: str
    waited: str
    progress: Progress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What belongs to a job's steps, read once. Of the chunks of a map there are only those that a reader wants to see.

    steps: in order, chunks after their map; own: without chunks; total: how many there are with all chunks; maps: how
    far each map is.
    """

    steps: list[Step]
    total: int
    maps: dict[Any, Progress]
    attempts: dict[Any, list[Attempt]]
    requests: dict[str, list[ApprovalRequest]]

    @classmethod
    def of(cls, job: Job, *, chosen: str = "") -> "Work":
        """chosen: the key of a step that is among them even where it is one of many chunks."""
        own = list(Step.objects.filter(job=job, parent=None).order_by("seq"))
        maps = progress_of([step for step in own if step.kind == Step.Kind.MAP])
        total = len(own) + sum(sum(progress.chunks.values()) for progress in maps.values())
        chunks: dict[Any, list[Step]] = defaultdict(list)
        for chunk in chunks_to_show(job, maps, chosen=chosen) if total > len(own) else ():
            chunks[chunk.parent_id].append(chunk)
        steps = [one for step in own for one in (step, *chunks[step.pk])]
        ids = [step.pk for step in steps]
        attempts: dict[Any, list[Attempt]] = defaultdict(list)
        for attempt in Attempt.objects.filter(step__in=ids).order_by("number"):
            attempts[attempt.step_id].append(attempt)
        requests: dict[str, list[ApprovalRequest]] = defaultdict(list)
        for request in (
            ApprovalRequest.objects.filter(parent_id=str(job.pk), subject_id__in=[str(pk) for pk in ids])
            .select_related("approvers")
            .prefetch_related("votes__user")
            .order_by("created_at")
        ):
            requests[request.subject_id].append(request)
        return cls(steps=steps, total=total, maps=maps, attempts=attempts, requests=requests)

    @property
    def own(self) -> list[Step]:
        return [step for step in self.steps if step.parent_id is None]

    def step(self, key: str) -> Step | None:
        return next((step for step in self.steps if step.key == key), None)

    def focus(self) -> Step | None:
        """The step that a reader most likely wants: what runs, what waits, what failed last, what ended last."""
        for states in (
            {StepState.RUNNING},
            {StepState.WAITING_APPROVAL, StepState.IN_DOUBT},
            {StepState.READY, StepState.QUEUED},
        ):
            found = [step for step in self.steps if step.state in states]
            if found:
                return self._whole(found[0])
        begun = [step for step in self.steps if under_way(step)]
        if begun:
            return begun[0]
        ended = [step for step in self.steps if step.finished_at is not None and step.state != StepState.SKIPPED]
        failed = [step for step in ended if step.state == StepState.FAILED]
        candidates = ended if ended and ended[-1].state == StepState.SUCCEEDED else failed or ended
        return max(candidates, key=lambda step: (step.finished_at, step.seq)) if candidates else None

    def _whole(self, step: Step) -> Step:
        """Of a chunk that runs its map: that shows how far it is. One that waits for people is itself of interest."""
        if step.parent_id is None or step.state in {StepState.WAITING_APPROVAL, StepState.IN_DOUBT}:
            return step
        return next((one for one in self.steps if one.pk == step.parent_id), step)


def spans_of(step: Step, attempts: Sequence[Attempt], requests: Sequence[ApprovalRequest], now: datetime) -> list[Span]:
    """When the step waited for people, ran, and in between stood in a queue."""
    if step.kind in (Step.Kind.MAP, Step.Kind.JOB):
        return _own_span(step, now)
    spans: list[Span] = []
    over = step.finished_at if step.state in STEP_DONE else now
    begun = min([at for at in (step.ready_at, step.started_at) if at is not None], default=None)
    for request in requests:
        until = request.decided_at or (over if over is not None else now)
        if until > request.created_at:
            waited = duration(until - request.created_at)
            spans.append(Span("wait", request.created_at, until, f"waited {waited} for people: {request.state}"))
    for attempt in attempts:
        until = attempt.ended_at or (over if over is not None else now)
        kind = _run_kind(step, attempt, last=attempt is attempts[-1])
        title = f"attempt {attempt.number} ran {duration(until - attempt.claimed_at)} on {attempt.worker}"
        spans.append(Span(kind, attempt.claimed_at, max(until, attempt.claimed_at), title))
    if begun is not None and over is not None:
        spans += _idle(begun, over, spans, f"in queue {step.queue}")
    if not spans and step.finished_at is not None:
        spans.append(Span("mark", step.finished_at, step.finished_at, STEP_LABELS[StepState(step.state)]))
    return spans


def _own_span(step: Step, now: datetime) -> list[Span]:
    """Of a step that no worker runs: from when it began until what it waited for had ended."""
    if step.started_at is None:
        at = step.finished_at
        return [Span("mark", at, at, STEP_LABELS[StepState(step.state)])] if at is not None else []
    until = step.finished_at or now
    kind = {"pending": "run", "succeeded": "good"}.get(step.state) or _RUN_KINDS.get(StepState(step.state), "failed")
    what = "worked through its items" if step.kind == Step.Kind.MAP else "waited for its job"
    return [Span(kind, step.started_at, until, f"{what} for {duration(until - step.started_at)}")]


def _idle(begun: datetime, over: datetime, busy: Sequence[Span], title: str) -> list[Span]:
    """What of the time from `begun` to `over` none of the busy spans covers."""
    idle, at = [], begun
    for span in sorted(busy, key=lambda one: one.start):
        if span.start > at:
            idle.append(Span("queue", at, min(span.start, over), title))
        at = max(at, span.end)
    if over > at:
        idle.append(Span("queue", at, over, title))
    return idle


def _run_kind(step: Step, attempt: Attempt, *, last: bool) -> str:
    if not last:
        return "failed"
    return {"succeeded": "good", "running": "run"}.get(step.state) or _RUN_KINDS.get(StepState(step.state), "failed")


def rows_of(job: Job, work: Work, now: datetime) -> tuple[list[Row], list[Tick]]:
    """The list with its lanes, and the axis above it."""
    spans = {
        step.pk: spans_of(step, work.attempts.get(step.pk, []), work.requests.get(str(step.pk), []), now)
        for step in work.steps
    }
    times = [time for one in spans.values() for span in one for time in (span.start, span.end)]
    axis = Axis(
        [job.created_at, *times],
        future=any(step.state == StepState.PENDING and not under_way(step) for step in work.steps),
    )
    rows = []
    for step in work.steps:
        lane = bars(axis, spans[step.pk])
        rows.append(
            Row(
                step=step,
                what=describe(step),
                label=step_label(step),
                short=step_label(step, short=True),
                badge=step_badge(step),
                future=step.state == StepState.PENDING and not under_way(step),
                progress=work.maps.get(step.pk),
                bars=lane,
                ran=_total(spans[step.pk], {"run", "good", "failed", "stopped", "doubt"}),
                waited=_total(spans[step.pk], {"wait"}),
            )
        )
    return rows, axis.ticks()


def _total(spans: Sequence[Span], kinds: set[str]) -> str:
    found = [span for span in spans if span.kind in kinds]
    return duration(sum((span.end - span.start).total_seconds() for span in found)) if found else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLine:
    attempt: Attempt
    took: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """A model's answer: what it said, and which calls it asked for."""

    content: str
    calls: list[tuple[str, str]]
    finish: str
    ledger: list[LlmCall]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Everything about one step. Texts are hostile; hidden characters are written out, the template escapes."""

    step: Step
    label: str
    badge: str
    command: str
    arguments: str
    reason: str
    by_agent: bool
    requests: list[ApprovalRequest]
    attempts: list[AttemptLine]
    summary: str
    draft: str  # the address of the workflow that the step drafted
    text: str
    cut: str
    truncated: str
    exit_code: int | None
    sandbox: str
    connections: list[Reached]
    connections_more: int
    checks: Checks | None
    error: str
    outlook: str
    model: ModelCall | None
    waited: str
    took: str
    exposure: Exposure
    decision: dict[str, Any] = field(default_factory=dict)


def panel_of(step: Step, work: Work, now: datetime) -> Panel:
    result = _object(step.result)
    text = readable(str(result.get("text") or ""))
    sandbox = _object(result.get("sandbox"))
    connections, connections_more = reached(sandbox)
    attempts = work.attempts.get(step.pk, [])
    exit_code = result.get("exit_code")
    truncated = result.get("truncated_bytes")
    return Panel(
        step=step,
        label=step_label(step),
        badge=step_badge(step),
        command="" if step.tool == THINK else command(step),
        arguments=pretty(spec_of(step) if step.kind == Step.Kind.MAP else step.arguments),
        reason=readable(step.reason),
        by_agent=step.proposed_by_id is not None,
        exposure=exposure_of(step),
        decision=_object(step.decision),
        requests=work.requests.get(str(step.pk), []),
        attempts=[
            AttemptLine(
                attempt=one,
                took=between(one.claimed_at, one.ended_at or (now if step.state == StepState.RUNNING else None)),
                outcome=one.outcome or ("running" if step.state == StepState.RUNNING else "open"),
            )
            for one in attempts
        ],
        summary=readable(str(result.get("summary") or "")),
        draft=str(_object(result.get("data")).get("address") or "") if step.tool == DRAFT else "",
        text=text[:OUTPUT_LIMIT_CHARS],
        cut=size(len(text) - OUTPUT_LIMIT_CHARS) if len(text) > OUTPUT_LIMIT_CHARS else "",
        truncated=size(truncated) if isinstance(truncated, int) and truncated > 0 else "",
        exit_code=exit_code if isinstance(exit_code, int) else None,
        sandbox=" · ".join(
            f"{name}: {readable(_listed(value))}" for name, value in sandbox.items() if value and name != "connections"
        ),
        connections=connections,
        connections_more=connections_more,
        checks=checks_of(step.tool, _object(result.get("data"))),
        error=readable(step.error),
        outlook=readable(outlook(step)),
        model=_model_call(step, result) if step.tool == THINK else None,
        waited=between(step.ready_at, step.started_at),
        took=between(step.started_at, step.finished_at),
    )


def pretty(value: Any) -> str:
    """JSON for reading: indented, real letters, hidden characters as marks; cut, and saying so, at the limit."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    more = len(text) - ARGUMENTS_LIMIT_CHARS
    return visible(text[:ARGUMENTS_LIMIT_CHARS]) + (f"\n… {more:,} more characters" if more > 0 else "")


def _listed(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _model_call(step: Step, result: dict[str, Any]) -> ModelCall:
    data = _object(result.get("data"))
    asked = data.get("tool_calls")
    return ModelCall(
        content=readable(str(data.get("content") or "")),
        calls=[
            (readable(str(call.get("name", ""))), pretty(call.get("arguments", {})))
            for call in map(_object, asked if isinstance(asked, list) else [])
        ],
        finish=readable(str(_object(data.get("finish")).get("summary") or "")),
        ledger=list(LlmCall.objects.filter(step=step).order_by("at")),
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
