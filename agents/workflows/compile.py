"""A published version and inputs, as the submission of a job.

What each kind of step becomes:

- `tool`: a call; arguments with `${{ CEL }}` become the step's template, which the engine resolves when it releases it.
- `map`: kind MAP with the item's tool, and as spec {over, arguments, chunk?, parallel?, max_failures?}, where
  `arguments` is a template over `item` and `index` too (see `agents.engine.fanout`).
- `workflow`: kind JOB with the tool `job.workflow` and arguments {workflow, version, inputs}; a version that is not
  named is the highest published one now, so that a running job does not change under way.
- `goal`: kind JOB with the tool `job.delegate` and arguments {goal, agent?, tools?, max_tokens?}.

`when` becomes the step's condition, `retry` {max_attempts, delay_s, backoff, max_delay_s, on}, `timeout` timeout_s,
`fallbacks` {tool, arguments, on?} and `compensation` {tool, arguments}, the latter two with their templates unresolved (of a map's compensation over `item`, `index` and `result` too). Outputs stay in the
version's definition, where the engine reads them when the job ends.
"""

import re
from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User

from agents.engine import celtext
from agents.engine.intake import NewJob, NewStep
from agents.errors import InvalidInput, UnknownAgent, UnknownWorkflow
from agents.models import Agent, Job, Repository, Step, WorkflowVersion
from agents.selectors import usable_agents
from agents.workflows.cel_check import templated
from agents.workflows.inputs import check_inputs
from agents.workflows.schema import inputs_schema, seconds
from agents.workflows.versions import current
from tools import celcode

RUN_WORKFLOW, DELEGATE = "job.workflow", "job.delegate"
KEY_MAX_CHARS = 200
_NAMED = re.compile(r"([a-z0-9][a-z0-9_-]*)(?:@([1-9][0-9]{0,8}))?")


def find(name: str, number: int | None = None) -> WorkflowVersion:
    """The version that a submission means: `ship`, `ship@3`, or `ship` with a number.

    Raises:
        UnknownWorkflow: there is no such published version.
    """
    found = _NAMED.fullmatch(name)
    if found is not None and found[2] and number is not None and int(found[2]) != number:
        raise UnknownWorkflow(f"{name} and version {number} are not the same.", field="version")
    version = current(found[1], int(found[2]) if found[2] else number) if found else None
    if version is None:
        wanted = name if number is None else f"{name}@{number}"
        raise UnknownWorkflow(f"There is no published workflow {wanted!r}.", field="workflow")
    return version


def new_job(
    version: WorkflowVersion,
    inputs: Mapping[str, Any],
    *,
    owner: User,
    repository: Repository | None = None,
    agent: Agent | None = None,
    priority: int | None = None,
    labels: Mapping[str, str] | None = None,
    title: str = "",
    idempotency_key: str = "",
    request_sha256: str = "",
) -> NewJob:
    """The submission that runs `version`; writes nothing.

    Raises:
        InvalidInput: an input does not fit, or the repository is missing or not wanted.
        UnknownAgent, UnknownWorkflow: what the definition names is gone.
    """
    definition: dict[str, Any] = version.definition or {}
    _check_repository(definition, repository)
    values = check_inputs(inputs_schema(definition), inputs)
    if agent is None and "agent" in definition:
        agent = usable_agents().filter(name=definition["agent"]).first()
        if agent is None:
            raise UnknownAgent(f"There is no enabled agent {definition['agent']!r}.", field="agent")
    variables = {"inputs": values, "job": {"workflow": version.workflow.name, "version": version.number}}
    own = {name: _rendered(text, variables, f"labels.{name}") for name, text in definition.get("labels", {}).items()}
    key = _rendered(definition.get("concurrency_key", ""), variables, "concurrency_key")
    if len(key) > KEY_MAX_CHARS:
        raise InvalidInput(f"The concurrency key has more than {KEY_MAX_CHARS} characters.", field="inputs")
    return NewJob(
        owner=owner,
        kind=Job.Kind.WORKFLOW,
        goal=title or definition.get("title") or version.workflow.name,
        agent=agent,
        repository=repository,
        priority=definition.get("priority", 5) if priority is None else priority,
        labels={**own, **(labels or {})},
        steps=[_step(step) for step in definition["steps"]],
        idempotency_key=idempotency_key,
        request_sha256=request_sha256,
        workflow_version=version,
        inputs=values,
        concurrency_key=key,
        deadline_s=seconds(definition["deadline"]) if "deadline" in definition else None,
    )


def for_child(job: Job, name: str, number: int | None, inputs: Mapping[str, Any]) -> NewJob:
    """The submission of a workflow that a step of `job` runs: same owner, same repository.

    Raises:
        InvalidInput, UnknownWorkflow
    """
    version = find(name, number)
    wanted = (version.definition or {}).get("repository", "optional")
    return new_job(
        version,
        inputs,
        owner=job.owner,
        repository=None if wanted == "none" else job.repository,
        agent=job.agent,
        priority=job.priority,
        labels=job.labels,
    )


def _check_repository(definition: Mapping[str, Any], repository: Repository | None) -> None:
    wanted = definition.get("repository", "optional")
    if wanted == "required" and repository is None:
        raise InvalidInput("This workflow works on a repository: name one.", field="repository")
    if wanted == "none" and repository is not None:
        raise InvalidInput("This workflow takes no repository.", field="repository")


def _step(given: Mapping[str, Any]) -> NewStep:
    common: dict[str, Any] = {
        "key": given["key"],
        "needs": tuple(given.get("needs", ())),
        "needs_success": given.get("needs_success", True),
        "reason": given.get("reason", ""),
        "condition": given.get("when", ""),
        "compensation": {"arguments": {}, **given["compensation"]} if "compensation" in given else None,
    }
    if "map" in given:
        spec = {"arguments": {}, **{name: one for name, one in given["map"].items() if name != "tool"}}
        return NewStep(tool=given["map"]["tool"], kind=Step.Kind.MAP, arguments={}, spec=spec, **common)
    if "workflow" in given:
        return _called(RUN_WORKFLOW, _sub_workflow(given), kind=Step.Kind.JOB, **common)
    if "goal" in given:
        wanted = {name: given[name] for name in ("goal", "agent", "tools", "max_tokens") if name in given}
        return _called(DELEGATE, wanted, kind=Step.Kind.JOB, **common)
    return _called(
        given["tool"],
        given.get("arguments", {}),
        retry=_retry(given.get("retry")),
        timeout_s=seconds(given["timeout"]) if "timeout" in given else None,
        fallbacks=[{"arguments": {}, **one} for one in given.get("fallbacks", ())],
        **common,
    )


def _called(tool: str, arguments: dict[str, Any], **more: Any) -> NewStep:
    """Arguments with templates wait in `template` for their values."""
    if templated(arguments):
        return NewStep(tool=tool, arguments={}, template=arguments, **more)
    return NewStep(tool=tool, arguments=arguments, **more)


def _sub_workflow(given: Mapping[str, Any]) -> dict[str, Any]:
    version = find(given["workflow"])
    return {"workflow": version.workflow.name, "version": version.number, "inputs": given.get("inputs", {})}


def _retry(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    seconds_of = {"delay": "delay_s", "max_delay": "max_delay_s"}
    return {seconds_of.get(name, name): seconds(one) if name in seconds_of else one for name, one in given.items()}


def _rendered(text: str, variables: Mapping[str, Any], field: str) -> str:
    """Raises InvalidInput: the inputs have no value for it."""
    try:
        seen = celcode.scope(variables)
        return str(celtext.filled(text, lambda code: celcode.value(code, seen), str))
    except (celcode.CelFault, celtext.InvalidExpression):
        raise InvalidInput(f"The workflow's {field} cannot be told from these inputs.", field="inputs") from None
