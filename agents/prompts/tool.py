"""llm.prompt: a model is asked by a version of a prompt, which the record then names."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from django.utils import timezone

from agents.errors import AgentsError
from agents.llm.complete import answered
from agents.llm.gateway import Asking, ThinkFailed, is_scripted, targets_for
from agents.models import Capability, Job, Step
from agents.prompts.render import filled_in, messages
from agents.prompts.use import noted
from agents.prompts.versions import chosen
from tools.spec import Box, Effect, Limits, Result, Risk, RiskScore, Tool

NAME = {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$", "maxLength": 80}


class AskByPrompt(Tool):
    """Asks the model by a prompt of the server: its newest published version, or the one that is named; while a prompt
    has a candidate, a share of the jobs gets that. What it asked with stands in `data.prompt`.

    Fails with the codes of `llm.complete` and: `bad_prompt` (no such version, or inputs that do not fit it).
    """

    name: ClassVar[str] = "llm.prompt"
    examples = ({"prompt": "review", "version": 1, "inputs": {"diff": "+ x = 1"}},)
    summary: ClassVar[str] = "Asks the model by a versioned prompt, with its variables' values."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "prompt": {**NAME, "description": "By name."},
            "version": {"type": "integer", "minimum": 1, "description": "The one in force where none is given."},
            "inputs": {"type": "object", "description": "Of its variables, as the prompt says."},
            "fresh": {"type": "boolean", "description": "Never an answer that was kept from the same question before."},
        },
        "required": ["prompt"],
        "additionalProperties": False,
    }
    effect: ClassVar[Effect] = Effect.REPEATABLE
    queue: ClassVar[str] = "llm"
    limits: ClassVar[Limits] = Limits(timeout_s=900.0)

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("asks the model; changes nothing by itself",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        version = f"@{arguments['version']}" if "version" in arguments else ""
        return f"ask the model by the prompt {arguments['prompt']}{version}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        """Raises ThinkFailed."""
        step = Step.objects.get(pk=box.call_id)
        job = Job.objects.select_related("agent__route", "repository", "owner").get(pk=step.job_id)
        try:
            version = chosen(arguments["prompt"], arguments.get("version"), key=str(job.pk))
            values = filled_in(version.definition, arguments.get("inputs", {}))
        except AgentsError as error:
            raise ThinkFailed("bad_prompt", error.message) from None
        prompt = noted(step, version, now=timezone.now())
        asking = Asking(
            job=job,
            step=step,
            turn=1,
            targets=targets_for(job, needs={Capability.CHAT}),
            tools=[],
            box=box,
            purpose=self.name,
            functions=[],
            schema=version.definition.get("answer"),
            cacheable=not arguments.get("fresh"),
        )
        answer, value, spent = answered(asking, messages(version.definition, values), asking.schema)
        text = answer.content[:100_000] if value is None else json.dumps(value, indent=2, ensure_ascii=False)
        return Result(
            ok=True,
            summary=f"The model answered by {version}.",
            text=text,
            data={
                "answer": value,
                "prompt": prompt,
                "usage": {"prompt_tokens": spent.prompt_tokens, "completion_tokens": spent.completion_tokens},
                "model": answer.model,
                "scripted": is_scripted(answer),
            },
        )
