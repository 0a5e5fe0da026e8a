"""A call that stands for many: the same tool, once for each of its `calls`, under one permit.

The permit's digest covers all arguments in their order. Only tools that may run again do this (READ, REPEATABLE):
after a crash the whole batch runs anew.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from audit.canonical import canonical_json
from tools import registry
from tools.errors import InvalidArguments, ToolError, ToolRefused
from tools.spec import Box, Call, Effect, Result, Tool

CALLS_MAX = 1000
KEPT_BYTES = 16 * 1024  # of one call's data and text
LINES_MAX = 200  # of a preview


def arguments_of(call: Call) -> Sequence[Mapping[str, Any]]:
    """The arguments of each call that `call` stands for: its own, or those of its batch.

    Raises:
        InvalidArguments: a batch without `calls`, or with too many.
    """
    if not call.many:
        return [call.arguments]
    calls = call.arguments.get("calls")
    if not isinstance(calls, list) or set(call.arguments) != {"calls"}:
        raise InvalidArguments("A batch has `calls` and nothing else.", field="arguments.calls")
    if not 1 <= len(calls) <= CALLS_MAX:
        raise InvalidArguments(f"A batch has 1 to {CALLS_MAX} calls, not {len(calls)}.", field="arguments.calls")
    return calls


def validate(tool: Tool, call: Call) -> None:
    """Checks every call by the tool's schema and its own check.

    Raises:
        InvalidArguments, ToolRefused: as `registry.validate`; ToolRefused also for a batch of a ONCE tool.
    """
    each = arguments_of(call)
    if call.many and (tool.effect is Effect.ONCE or tool.asks_person):
        raise ToolRefused(f"{tool.name} cannot run in a batch.")
    for arguments in each:
        registry.validate(tool, arguments)


def run(tool: Tool, call: Call, box: Box, *, storable: Callable[[Result], Result]) -> Result:
    """Runs the calls in their order; one that fails does not stop the others. Stops between two when asked to end.

    `data["items"]` holds for each: ok, summary, and data, text, error_code or error where there is any.
    """
    calls = arguments_of(call)
    items: list[dict[str, Any]] = []
    for arguments in calls:
        if box.cancelled():
            break
        items.append(_one(tool, arguments, box, storable))
    good = sum(item["ok"] for item in items)
    summary = f"{good} of {len(calls)} calls succeeded"
    if len(items) < len(calls):
        summary += f"; stopped after {len(items)}"
    return Result(ok=len(items) == len(calls), summary=summary, data={"items": items}, sandbox=box.record_sandbox())


def describe(tool: Tool, call: Call) -> str:
    """A line a call, the first few of many."""
    calls = arguments_of(call)
    lines = [tool.describe(arguments) for arguments in calls[:LINES_MAX]]
    if len(calls) > LINES_MAX:
        lines.append(f"… and {len(calls) - LINES_MAX} more calls of {tool.name}")
    return "\n".join(lines)


def _one(tool: Tool, arguments: Mapping[str, Any], box: Box, storable: Callable[[Result], Result]) -> dict[str, Any]:
    try:
        result = storable(tool.run(arguments, box))
    except ToolError as error:
        return {"ok": False, "summary": "", "error_code": error.code, "error": error.message[:2000]}
    item: dict[str, Any] = {"ok": result.ok, "summary": result.summary}
    if result.data:
        item["data"] = dict(result.data)
    if result.text:
        item["text"] = result.text
    if not result.ok:
        item["error_code"] = str(result.data.get("error_code") or "not_ok")
        item["error"] = result.summary
    return item if _small(item) else _shortened(item)


def _small(item: Mapping[str, Any]) -> bool:
    return ("data" not in item and len(item.get("text", "")) <= KEPT_BYTES // 4) or len(
        canonical_json(item)
    ) <= KEPT_BYTES


def _shortened(item: dict[str, Any]) -> dict[str, Any]:
    """Without its data where that is too big, and with the beginning of its text."""
    text = item.pop("text", "")
    if len(canonical_json(item)) > KEPT_BYTES:
        item["data"] = {"left_out": f"more than {KEPT_BYTES} bytes"}
    return {**item, "text": text[:2000]} if text else item
