"""What a model asked for becomes the job's next steps."""

from datetime import datetime
from typing import Any

from agents.engine import intake
from agents.engine.advance import THINK
from agents.engine.gate import proposer
from agents.models import Job, Step
from tools import registry
from tools.errors import UnknownTool
from tools.spec import Effect, Result

COMPACT = "llm.compact"


def append_steps(job: Job, step: Step, result: Result, *, now: datetime) -> None:
    """Appends the calls of a model's answer, and the next turn that will read their results.

    Calls that only read run side by side; one that changes something waits for all before it, and is skipped when
    one of them fails. An answer that finishes appends nothing. Beyond the job's limits the job ends, saying so.
    """
    if result.data.get("compact"):
        _compact(job, step, dict(result.data["compact"]), now=now)
        return
    finish = result.data.get("finish")
    calls: list[dict[str, Any]] = list(result.data.get("tool_calls") or [])
    if finish is None and not calls:
        finish = {"success": True, "summary": str(result.data.get("content", ""))}
    if finish is not None:
        _finish(step, finish)
        return
    turn = int(step.arguments.get("turn", 1))
    used = Step.objects.filter(job=job).count()
    if used + len(calls) + 1 > job.max_steps:
        _finish(step, {"success": False, "summary": f"Stopped: the limit of {job.max_steps} steps is reached."})
        return
    if job.tokens_used >= job.max_tokens:
        _finish(step, {"success": False, "summary": f"Stopped: the limit of {job.max_tokens} tokens is reached."})
        return
    new: list[intake.NewStep] = []
    reads: list[str] = []
    writes: list[str] = []
    for number, call in enumerate(calls, start=1):
        key = f"{turn}.{number}"
        reading = _reads(str(call["name"]))
        needs = writes[-1:] if reading else [*writes[-1:], *reads]
        new.append(
            intake.NewStep(
                key=key,
                tool=str(call["name"]),
                arguments=dict(call["arguments"]),
                needs=needs,
                reason=str(call.get("reason", ""))[:2000],
                tool_call_id=str(call.get("id", ""))[:120],
                opinion=_opinion(call.get("danger")),
            )
        )
        if reading:
            reads.append(key)
        else:
            writes.append(key)
            reads = []
    new.append(
        intake.NewStep(
            key=f"think-{turn + 1}",
            tool=THINK,
            arguments={"turn": turn + 1},
            needs=[one.key for one in new],
            needs_success=False,
        )
    )
    intake.add_steps(job, new, now=now, actor=proposer(job), proposed_by=step)


def _compact(job: Job, step: Step, wanted: dict[str, Any], *, now: datetime) -> None:
    """The conversation is put into fewer words, and the turn is taken again, also where that fails."""
    turn = int(step.arguments.get("turn", 1))
    if Step.objects.filter(job=job).count() + 2 > job.max_steps:
        _finish(step, {"success": False, "summary": f"Stopped: the limit of {job.max_steps} steps is reached."})
        return
    shorter = intake.NewStep(key=f"compact-{turn}", tool=COMPACT, arguments=wanted)
    again = intake.NewStep(
        key=f"think-{turn + 1}", tool=THINK, arguments={"turn": turn + 1}, needs=[shorter.key], needs_success=False
    )
    intake.add_steps(job, [shorter, again], now=now, actor=proposer(job), proposed_by=step)


def _opinion(danger: object) -> dict[str, Any] | None:
    """The model's own word on a call's risk, where it may raise it."""
    if danger not in ("medium", "high"):
        return None
    return {"level": danger, "reasons": [f"the model that asks for it calls it {danger} risk"]}


def _reads(name: str) -> bool:
    try:
        return registry.get(name).effect is Effect.READ
    except UnknownTool:
        return False


def _finish(step: Step, finish: dict[str, Any]) -> None:
    """Keeps how the job ends on the model step's row, where `advance` reads it."""
    assert step.result is not None
    data = {**step.result["data"], "finish": {"success": bool(finish["success"]), "summary": str(finish["summary"])}}
    step.result = {**step.result, "data": data}
    Step.objects.filter(pk=step.pk).update(result=step.result)
