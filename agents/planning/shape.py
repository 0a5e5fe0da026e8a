"""The shape of a plan, as a model or a person writes it, and everything that is wrong with one."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from agents.engine import expressions
from agents.engine.expressions import InvalidExpression
from agents.engine.planned import PREPARE
from agents.errors import InvalidInput
from agents.payload import StepInput, parse
from agents.submit import plan as check_plan
from tools.spec import Tool

STEPS_MAX = 40
KEY = "^[a-z][a-z0-9_]{0,39}$"
PROBLEMS_TOLD = 8


def schema(tools: Iterable[Tool], *, finish_only: bool = False) -> dict[str, Any]:
    """JSON Schema of an answer: a plan of calls of these tools, or how the job ends."""
    text = {"type": "string", "maxLength": 2000}
    step = {
        "type": "object",
        "properties": {
            "key": {"type": "string", "pattern": KEY, "description": "A name of its own, such as run_tests."},
            "tool": {"type": "string", "enum": [tool.name for tool in tools]},
            "arguments": {"type": "object", "description": "As the tool's schema says; texts may hold ${{ CEL }}."},
            "needs": {"type": "array", "items": {"type": "string"}, "description": "Keys of steps that come first."},
            "success_check": {**text, "description": "CEL that must be true afterwards; empty: that it succeeded."},
            "reason": {**text, "description": "Why, in one sentence. People who approve the step read it."},
            "instead_of": {"type": "string", "description": "The key of the earlier step that this one replaces."},
        },
        "required": ["key", "tool", "arguments"],
        "additionalProperties": False,
    }
    finish = {
        "type": "object",
        "properties": {"success": {"type": "boolean"}, "summary": {"type": "string", "maxLength": 20_000}},
        "required": ["success", "summary"],
        "additionalProperties": False,
    }
    note = {**text, "description": "Why this way."}
    if finish_only:
        return _object({"note": note, "finish": finish}, required=["finish"])
    return _object(
        {"note": note, "steps": {"type": "array", "items": step, "maxItems": STEPS_MAX}, "finish": finish}, required=[]
    )


def normal(steps: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Steps as a plan's row holds them: every field there, nothing else."""
    return [
        {
            "key": str(one.get("key", "")),
            "tool": str(one.get("tool", "")),
            "arguments": dict(one.get("arguments") or {}),
            "needs": list(dict.fromkeys(one.get("needs") or ())),
            "success_check": str(one.get("success_check") or "").strip(),
            "reason": str(one.get("reason") or ""),
            "instead_of": str(one.get("instead_of") or ""),
        }
        for one in steps
    ]


def problems(
    steps: Sequence[Mapping[str, Any]],
    *,
    tools: Collection[str],
    ended: Collection[str] = (),
    before: Collection[str] = (),
    room: int = STEPS_MAX,
) -> list[tuple[str, str]]:
    """(where, what) of all that is wrong with a plan.

    tools: those that it may call; ended: keys that the job has already; before: those of the plan before this one; room: how many steps the job may still have.
    """
    found: list[tuple[str, str]] = []
    if not steps:
        return [("steps", "A plan has at least one step.")]
    if len(steps) > STEPS_MAX:
        return [("steps", f"A plan has at most {STEPS_MAX} steps.")]
    rows = len(steps) + sum(bool(one["success_check"]) for one in steps)
    if rows > room:
        found.append(("steps", f"With its checks the plan has {rows} steps; the job has room for {room}."))
    for index, one in enumerate(steps):
        here = f"steps[{index}]"
        if one["key"] in ended or one["key"] == PREPARE:
            found.append((f"{here}.key", f"The job has a step {one['key']!r} already: give this one another key."))
        if one["instead_of"] and one["instead_of"] not in {*ended, *before}:
            found.append((f"{here}.instead_of", f"There was no step {one['instead_of']!r} before."))
        found += _check_problems(one, {step["key"] for step in steps} | set(ended), f"{here}.success_check")
    try:
        given = [parse(StepInput, {name: one[name] for name in _SHARED}) for one in steps]
        check_plan(given, ended=ended)
    except InvalidInput as error:
        found += list(error.problems or [(error.field, error.message)])
    told = {where for where, _ in found}
    for index, one in enumerate(steps):
        here = f"steps[{index}].tool"
        if one["tool"] not in tools and here not in told:
            found.append((here, f"{one['tool']!r} is no tool that this agent may use."))
    return found


_SHARED = ("key", "tool", "arguments", "needs", "reason")


def told(found: Sequence[tuple[str, str]]) -> str:
    """Problems in words, bounded."""
    words = [f"{where}: {what}" for where, what in found[:PROBLEMS_TOLD]]
    more = len(found) - PROBLEMS_TOLD
    return " ".join([*words, *([f"And {more} more."] if more > 0 else [])])


def _check_problems(step: Mapping[str, Any], keys: Collection[str], here: str) -> list[tuple[str, str]]:
    if not step["success_check"]:
        return []
    try:
        named = expressions.check(step["success_check"])
    except InvalidExpression as error:
        return [(here, error.message)]
    return [(here, f"There is no step {key!r} in this plan.") for key in sorted(named) if key not in keys]


def _object(properties: dict[str, Any], *, required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
