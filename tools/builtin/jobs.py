"""Calls that are jobs of their own: the engine starts the job and waits for its end; no worker runs the call."""

from collections.abc import Mapping
from typing import Any, ClassVar

from tools import registry
from tools.errors import ToolRefused
from tools.spec import Box, Effect, Result, Risk, RiskScore, Tool

_NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$", "maxLength": 80}


class _StartsJob(Tool):
    effect: ClassVar[Effect] = Effect.ONCE
    queue: ClassVar[str] = "control"
    starts_job: ClassVar[bool] = True

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("starts a job whose every step the policies decide on",))

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        """Raises ToolRefused: the engine starts the job."""
        raise ToolRefused(f"{self.name} is started by the engine, not run.")


class Delegate(_StartsJob):
    name: ClassVar[str] = "job.delegate"
    examples = ({"goal": "Find out why tests/test_pay.py fails.", "agent": "reader", "tools": ["files.*", "git.log"]},)
    summary: ClassVar[str] = "Hands a part of the goal to an agent as a job of its own, and waits for what it reports."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            # room for what two jobs before it reported
            "goal": {"type": "string", "minLength": 1, "maxLength": 60_000, "description": "What it is to reach."},
            "agent": {**_NAME, "description": "By name; the own agent where none is given."},
            "tools": {
                "type": "array",
                "items": {"type": "string", "pattern": r"^[a-z0-9_*-]+(\.[a-z0-9_*-]+)*$", "maxLength": 120},
                "minItems": 1,
                "maxItems": 50,
                "description": "Patterns of what it may use, such as files.*; never more than this job may.",
            },
            "max_tokens": {"type": "integer", "minimum": 1, "description": "Its share of this job's tokens."},
            "max_steps": {"type": "integer", "minimum": 1, "description": "Its share of this job's steps."},
        },
        "required": ["goal"],
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        if not arguments["goal"].strip():
            raise ToolRefused("The goal is empty.")

    def describe(self, arguments: Mapping[str, Any]) -> str:
        to = f" to {arguments['agent']}" if "agent" in arguments else ""
        return f"delegate{to}: {arguments['goal']}"


class RunWorkflow(_StartsJob):
    name: ClassVar[str] = "job.workflow"
    examples = ({"workflow": "validate", "inputs": {}},)
    summary: ClassVar[str] = "Runs a published workflow as a job of its own, and waits for its outputs."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "workflow": {**_NAME, "description": "By name."},
            "version": {
                "type": "integer",
                "minimum": 1,
                "description": "The newest published one where none is given.",
            },
            "inputs": {"type": "object", "description": "As the workflow's schema says."},
        },
        "required": ["workflow"],
        "additionalProperties": False,
    }

    def describe(self, arguments: Mapping[str, Any]) -> str:
        version = f"@{arguments['version']}" if "version" in arguments else ""
        return f"run workflow {arguments['workflow']}{version}"


registry.register(Delegate())
registry.register(RunWorkflow())
