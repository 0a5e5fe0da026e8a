"""A workflow from a problem in words: the model writes its definition, which is checked as every other and saved as a
draft in the owner's name. Nothing runs by it until a person has looked at it and published it."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import yaml
from django.utils import timezone

from agents.errors import AgentsError
from agents.llm.asking import ModelTool, used
from agents.llm.complete import answered
from agents.models import Job, Workflow
from agents.workflows import versions
from agents.workflows.schema import NAME, SCHEMA
from tools import registry
from tools.errors import ToolRefused
from tools.spec import Box, Result

PROBLEMS_TOLD = 8
SCHEMA_OF_ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "definition": {"type": "object", "description": "The workflow, by the JSON Schema that you were given."},
        "note": {"type": "string", "maxLength": 500, "description": "What it does not cover, and what to look at."},
    },
    "required": ["definition"],
    "additionalProperties": False,
}
_SYSTEM = """\
You write workflows for an automation server: definitions that people look at, publish, and then run again and again. \
Every step is decided on by policy when it runs, and what is risky waits for a person's approval.
- `inputs` is a JSON Schema of what differs from run to run; nothing that differs is written into a step.
- A step has a `key` and does one thing: `tool` with `arguments`, `map` over a list, `workflow`, or `goal` for an agent where \
the way cannot be known before. `needs` names the steps that come first; steps without needs run side by side.
- Texts may hold `${{ CEL }}` over `inputs`, `steps.KEY.text`, `.data`, `.summary`, `.exit_code`, `.ok` and `job`; `when` is \
CEL that skips the step where it is false. What is read of a step must be among its needs, directly or not.
- Give steps that change something outside a `compensation` where a tool can take them back, and a `reason` for approvers.
- `outputs` are CEL expressions. Use only the tools below, with arguments that fit their schemas. Keep it small.

The JSON Schema of a definition:
{schema}

Tools:
{tools}"""


class DraftWorkflow(ModelTool):
    """Fails with the codes of `agents.llm.errors` and: `budget_exhausted`, `invalid_answer`."""

    name: ClassVar[str] = "llm.draft_workflow"
    summary: ClassVar[str] = "Asks the model for a workflow that solves a problem, and saves it as a draft for people."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": NAME, "maxLength": 80, "description": "Of the new workflow."},
            "problem": {"type": "string", "minLength": 1, "maxLength": 20_000, "description": "What it is to do."},
        },
        "required": ["name", "problem"],
        "additionalProperties": False,
    }
    examples = ({"name": "nightly-checks", "problem": "Each night run all checks and file what fails."},)
    harmless: ClassVar[str] = "writes a draft that runs nothing until a person publishes it"

    def check(self, arguments: Mapping[str, Any]) -> None:
        if not arguments["problem"].strip():
            raise ToolRefused("The problem is empty.")

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"draft the workflow {arguments['name']}: {arguments['problem']}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        """Raises ThinkFailed, ToolRefused: there is such a workflow, or the job's owner may not add one."""
        asking = self.question(box, schema=SCHEMA_OF_ANSWER)
        job = asking.job
        name = str(arguments["name"])
        known = Workflow.objects.filter(name=name).first()
        if known is not None and not _mine(known, job):
            raise ToolRefused(f"There is a workflow {name!r} already: give the new one another name.")
        question = f"Write the workflow {name!r}. The problem:\n{arguments['problem']}"
        messages = [{"role": "system", "content": _system()}, {"role": "user", "content": question}]
        answer, value, spent = answered(asking, messages, SCHEMA_OF_ANSWER, check=lambda given: _wrong(name, given))
        assert value is not None
        note = str(value.get("note") or "")
        try:
            draft = versions.save_draft(
                source_of(name, value["definition"]),
                note=f"Drafted by a model. {note}"[:500],
                by=job.owner,
                now=timezone.now(),
            )
        except AgentsError as error:
            raise ToolRefused(error.message) from None
        return Result(
            ok=True,
            summary=f"The draft {draft} stands at {draft.get_absolute_url()} for people to look at.",
            text=draft.source,
            data={
                "workflow": name,
                "version": draft.number,
                "address": draft.get_absolute_url(),
                "note": note,
                **used(answer, spent),
            },
        )


def source_of(name: str, definition: Mapping[str, Any]) -> str:
    """The definition as YAML, as a person would begin it."""
    rest = {key: value for key, value in definition.items() if key != "name"}
    return yaml.safe_dump({"name": name, **rest}, sort_keys=False, allow_unicode=True, width=110)


def _mine(workflow: Workflow, job: Job) -> bool:
    """Only a draft, of this job's owner: an attempt before this one left it."""
    return workflow.owner_id == job.owner_id and not workflow.versions.exclude(status="draft").exists()


def _wrong(name: str, value: dict[str, Any]) -> str:
    found = versions.checked(source_of(name, value["definition"])).problems
    told = [f"{one.path or 'definition'}: {one.message}" for one in found[:PROBLEMS_TOLD]]
    more = len(found) - PROBLEMS_TOLD
    return " ".join([*told, *([f"And {more} more."] if more > 0 else [])])


def _system() -> str:
    tools = [
        f"- {tool.name}: {tool.summary} Requires {', '.join(tool.schema.get('required', [])) or 'nothing'}. "
        f"Arguments: {json.dumps(tool.schema.get('properties', {}), ensure_ascii=False, sort_keys=True)}"
        for tool in registry.every()
        if tool.offered
    ]
    schema = json.dumps({name: one for name, one in SCHEMA.items() if name != "$schema"}, ensure_ascii=False)
    return _SYSTEM.replace("{schema}", schema).replace("{tools}", "\n".join(tools))
