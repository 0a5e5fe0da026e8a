"""The published workflows as MCP prompts: each says how a client starts it here."""

import json
from collections.abc import Mapping
from typing import Any

from django.db.models import Max, Q
from mcp_types import GetPromptResult, Prompt, PromptArgument, PromptMessage, TextContent

from agents.errors import InvalidInput, UnknownWorkflow
from agents.mcp.caller import Caller
from agents.models import WorkflowVersion
from agents.workflows import versions
from agents.workflows.schema import inputs_schema

REPOSITORY = "repository"
_PUBLISHED = WorkflowVersion.Status.PUBLISHED


def every(who: Caller) -> list[Prompt]:
    """One a workflow that has a published version. Uses the database."""
    return [_prompt(one) for one in _versions(who)]


def get(name: str, given: Mapping[str, str], who: Caller) -> GetPromptResult:
    """What to tell the model, so that it submits the workflow with these inputs. Uses the database.

    Raises:
        UnknownWorkflow: there is none of this name with a published version.
        InvalidInput: an argument that it does not have, or one that is missing or cannot be read.
    """
    version = next((one for one in _versions(who) if one.workflow.name == name), None)
    if version is None:
        raise UnknownWorkflow(f"There is no published workflow {name!r}.", field="name")
    known = {one.name: one for one in _prompt(version).arguments or []}
    for unknown in sorted(set(given) - set(known)):
        raise InvalidInput(f"The workflow has no input {unknown!r}.", field=unknown)
    for one in known.values():
        if one.required and not given.get(one.name):
            raise InvalidInput("This argument is required.", field=one.name)
    properties = inputs_schema(version.definition or {}).get("properties", {})
    inputs = {key: _read(key, text, properties[key]) for key, text in given.items() if key in properties and text != ""}
    call: dict[str, Any] = {"workflow": str(version), "inputs": inputs}
    if given.get(REPOSITORY) and REPOSITORY not in properties:
        call["repository"] = given[REPOSITORY]
    definition = version.definition or {}
    title = definition.get("title") or name
    text = (
        f"Run the workflow “{title}” on this server. {_described(version)}\n\n"
        f"Call the tool submit_job with\n{json.dumps(call, indent=2, ensure_ascii=False)}\n\n"
        "Then call wait_job with the job's id until the job has ended. Where it waits for people, tell me the "
        "addresses in waits_for: only they can approve. At the end tell me the outcome and the outputs."
    )
    message = PromptMessage(role="user", content=TextContent(type="text", text=text))
    return GetPromptResult(description=_described(version), messages=[message])


def _versions(who: Caller) -> list[WorkflowVersion]:
    """The version of each workflow that a job would get, by name."""
    numbered = versions.workflows(who.user()).annotate(
        published=Max("versions__number", filter=Q(versions__status=_PUBLISHED))
    )
    wanted = {one.pk: one.published for one in numbered if one.published is not None}
    rows = WorkflowVersion.objects.select_related("workflow").filter(workflow__in=wanted, status=_PUBLISHED)
    return sorted((one for one in rows if wanted[one.workflow_id] == one.number), key=lambda one: one.workflow.name)


def _prompt(version: WorkflowVersion) -> Prompt:
    definition = version.definition or {}
    schema = inputs_schema(definition)
    required = set(schema.get("required", ()))
    arguments = [
        PromptArgument(name=key, description=str(one.get("description") or ""), required=key in required)
        for key, one in schema.get("properties", {}).items()
        if isinstance(one, dict)
    ]
    if definition.get("repository") in {"required", "optional"}:
        needed = definition["repository"] == "required"
        arguments.append(PromptArgument(name=REPOSITORY, description="By its name on this server.", required=needed))
    return Prompt(
        name=version.workflow.name,
        title=str(definition.get("title") or version.workflow.name),
        description=_described(version),
        arguments=arguments,
    )


def _described(version: WorkflowVersion) -> str:
    return str((version.definition or {}).get("description") or f"The workflow {version}.").strip()


def _read(key: str, text: str, schema: object) -> Any:
    """An argument, which is always text, as the input's schema wants it."""
    kinds = schema.get("type") if isinstance(schema, dict) else None
    if kinds == "string" or (isinstance(kinds, list) and "string" in kinds) or (kinds is None and text[:1] not in "[{"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise InvalidInput(f"Must be JSON of the type {kinds}.", field=key) from None
