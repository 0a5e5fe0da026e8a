"""The campaign's tools, one of each kind of effect. What they do happens in the ledger, outside the system."""

import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from django.conf import settings

from bench.campaign import ledger
from tools.errors import ToolFailed
from tools.spec import Box, Effect, Result, Tool

LOOK_S = 0.02


def _ledger(**question: Any) -> int:
    return ledger.ask(settings.CAMPAIGN_LEDGER, **question)  # type: ignore[misc]  # a setting of the campaign's own


class _LedgerTool(Tool):
    """Waits, writes to the ledger under the step's id, waits: a kill may come before, at, or after the effect."""

    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "before_ms": {"type": "integer", "minimum": 0, "maximum": 60_000},
            "after_ms": {"type": "integer", "minimum": 0, "maximum": 60_000},
        },
        "additionalProperties": False,
    }
    offered = True

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        if not _wait(arguments.get("before_ms", 0), box) or box.cancelled():
            raise ToolFailed("Stopped before it began.")
        count = self.act(box)
        _wait(arguments.get("after_ms", 0), box)
        return Result(ok=True, summary=f"The ledger holds {count} of it.", data={"count": count})

    def act(self, box: Box) -> int:
        return _ledger(op="write", step=box.call_id, kind=self.name, pid=os.getpid())


class Look(_LedgerTool):
    name = "campaign.look"
    summary = "Reads the ledger."
    effect = Effect.READ
    queue = "files"

    def act(self, box: Box) -> int:
        return _ledger(op="ask", step=box.call_id)


class Repeat(_LedgerTool):
    name = "campaign.repeat"
    summary = "Writes to the ledger; again is harmless."
    effect = Effect.REPEATABLE
    queue = "shell"


class Once(_LedgerTool):
    name = "campaign.once"
    summary = "Writes to the ledger, once; the ledger can be asked whether it happened."
    effect = Effect.ONCE
    queue = "control"

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        count = _ledger(op="ask", step=box.call_id)
        return Result(ok=True, summary="Found in the ledger.", data={"count": count}) if count else None


class Asked(Once):
    name = "campaign.asked"
    summary = "As campaign.once, after a person's approval."


class Blind(_LedgerTool):
    name = "campaign.blind"
    summary = "Writes to the ledger, once; nothing can be asked, so a person says whether it happened."
    effect = Effect.ONCE
    queue = "control"


TOOLS = (Look(), Repeat(), Once(), Asked(), Blind())


def _wait(milliseconds: int, box: Box) -> bool:
    """False: the step must end."""
    until = time.monotonic() + milliseconds / 1000
    while (left := until - time.monotonic()) > 0:
        if box.cancelled():
            return False
        time.sleep(min(LOOK_S, left))
    return True
