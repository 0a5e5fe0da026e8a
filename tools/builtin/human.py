"""Asking a person. The engine turns the call into a question that waits for its answer; no worker runs it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from tools import registry
from tools.errors import ToolRefused
from tools.spec import Box, Effect, Result, Risk, RiskScore, Tool


class Ask(Tool):
    name: ClassVar[str] = "human.ask"
    summary: ClassVar[str] = "Asks the person who gave the job one clear question and waits for the answer."
    effect: ClassVar[Effect] = Effect.READ
    queue: ClassVar[str] = "control"
    examples = ({"question": "Which branch?"},)
    asks_person: ClassVar[bool] = True
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"question": {"type": "string", "minLength": 1, "maxLength": 4000}},
        "required": ["question"],
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        if not arguments["question"].strip():
            raise ToolRefused("The question is empty.")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("asks a person and does nothing",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"ask: {arguments['question']}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        """Raises ToolRefused: a question is answered, not run."""
        raise ToolRefused("A question is answered by a person, not run.")


registry.register(Ask())
