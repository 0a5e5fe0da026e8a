"""llm.prompt: a model is asked by a version of a prompt, which the record then names."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from django.utils import timezone

from agents.errors import AgentsError
from agents.llm.asking import ModelTool, used
from agents.llm.complete import answered
from agents.llm.gateway import ThinkFailed
from agents.prompts.render import filled_in, messages
from agents.prompts.use import noted
from agents.prompts.versions import chosen
from tools.spec import Box, Result

NAME = {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$", "maxLength": 80}


class AskByPrompt(ModelTool):
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

    def describe(self, arguments: Mapping[str, Any]) -> str:
        version = f"@{arguments['version']}" if "version" in arguments else ""
        return f"ask the model by the prompt {arguments['prompt']}{version}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        """Raises ThinkFailed."""
        asking = self.question(box, cacheable=not arguments.get("fresh"))
        try:
            version = chosen(arguments["prompt"], arguments.get("version"), key=str(asking.job.pk))
            values = filled_in(version.definition, arguments.get("inputs", {}))
        except AgentsError as error:
            raise ThinkFailed("bad_prompt", error.message) from None
        prompt = noted(asking.step, version, now=timezone.now())
        asking = replace(asking, schema=version.definition.get("answer"))
        answer, value, spent = answered(asking, messages(version.definition, values), asking.schema)
        text = answer.content[:100_000] if value is None else json.dumps(value, indent=2, ensure_ascii=False)
        return Result(
            ok=True,
            summary=f"The model answered by {version}.",
            text=text,
            data={"answer": value, "prompt": prompt, **used(answer, spent)},
        )
