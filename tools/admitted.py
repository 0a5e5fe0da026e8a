"""A tool by others as the server uses it: bound to what an administrator set, and held to what a tool promises."""

import logging
from collections.abc import Mapping
from typing import Any

from tools.errors import InvalidArguments, ToolError, ToolFailed
from tools.spec import Box, Effect, Result, Risk, RiskScore, Tool

log = logging.getLogger(__name__)

DESCRIPTION_MAX = 2000
_ORDER = (Risk.LOW, Risk.MEDIUM, Risk.HIGH)


class AdmittedTool(Tool):
    """Wraps a tool whose author is not the server's.

    What pages and policies ask for (`check`, `risk`, `describe`) never breaks them: a fault there reads as high risk, as the
    tool's plain name, or as a refusal. What changes something and says that it has no risk to speak of is of medium risk.
    """

    def __init__(self, inner: Tool, *, name: str, effect: Effect, queue: str, schema_version: int) -> None:
        self.inner = inner
        kept = {
            "name": name,
            "summary": inner.summary,
            "schema": inner.schema,
            "effect": effect,
            "queue": queue,
            "schema_version": schema_version,
            "limits": inner.limits,
            "needs_profile": inner.needs_profile,
            "examples": inner.examples,
            "undone_by": inner.undone_by,
        }
        for attribute, value in kept.items():  # of this instance: the class's own would be every such tool's
            setattr(self, attribute, value)

    def check(self, arguments: Mapping[str, Any]) -> None:
        try:
            self.inner.check(arguments)
        except ToolError:
            raise
        except Exception as error:
            log.exception("tool.check_crashed", extra={"tool": self.name})
            raise InvalidArguments(f"{self.name} could not check its arguments: {type(error).__name__}.") from error

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        least = Risk.LOW if self.effect is Effect.READ else Risk.MEDIUM
        try:
            found = self.inner.risk(arguments)
            level = Risk(found.level)
            reasons = tuple(str(reason)[:DESCRIPTION_MAX] for reason in found.reasons[:20])
        except Exception:
            log.exception("tool.risk_crashed", extra={"tool": self.name})
            return RiskScore(level=Risk.HIGH, reasons=("the tool could not say how dangerous this is",))
        if _ORDER.index(level) < _ORDER.index(least):
            return RiskScore(level=least, reasons=(*reasons, "it changes something"))
        return RiskScore(level=level, reasons=reasons)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        try:
            return str(self.inner.describe(arguments))[:DESCRIPTION_MAX] or self.name
        except Exception:
            log.exception("tool.describe_crashed", extra={"tool": self.name})
            return self.name

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        return dict(self.inner.target_state(arguments, box))

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        return str(self.inner.preview(arguments, box))

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        """Raises ToolFailed also where it gives back what is no result."""
        found = self.inner.run(arguments, box)
        if not isinstance(found, Result):
            raise ToolFailed(f"{self.name} gave back {type(found).__name__}, which is no result.")
        return found

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        found = self.inner.probe(arguments, target_state, box)
        if found is not None and not isinstance(found, Result):
            raise ToolFailed(f"{self.name} cannot be asked whether it happened: its probe gave no result.")
        return found
