"""What a model reads when it makes a plan, or looks at what one has come to."""

import json
from dataclasses import dataclass
from typing import Any

from agents import defaults, profiles, teams
from agents.engine import grants
from agents.engine.planned import CHECK, PREPARE, refused_by_policy
from agents.errors import InvalidInput
from agents.llm import functions, transcript
from agents.memory.prompt import remembered
from agents.models import Job, Plan, PromptVersion, Step
from agents.prompts import render, shipped, versions
from agents.states import StepState
from tools.spec import Tool

ROOM_FOR_NEXT = 4  # rows that a round needs beside its plan's own
RESULT_CHARS = 6000
TOTAL_CHARS = 120_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a round has to do with. ended: keys that the job has; room: how many more steps it may have; last: it can only
    finish."""

    job: Job
    round: int
    tools: list[Tool]
    ended: frozenset[str]
    room: int
    last: bool
    left: int
    steps: list[Step]
    plan: Plan | None


def tools_of(job: Job) -> list[Tool]:
    """Those that a plan of the job may call."""
    profile = profiles.of(job)
    tools = functions.offered(profile.tools if profile else defaults.TOOLS)
    return [tool for tool in tools if grants.covers(job.grant, tool)]


def look(job: Job, *, round: int, max_replans: int) -> Around:
    """Reads the rows."""
    steps = list(Step.objects.filter(job=job, parent=None).order_by("seq"))
    room = job.max_steps - len(steps) - ROOM_FOR_NEXT
    left = max(0, max_replans - max(0, round - 2))
    return Around(
        job=job,
        round=round,
        tools=tools_of(job),
        ended=frozenset(step.key for step in steps),
        room=max(0, room),
        last=round > 1 + max_replans or room < 1,
        left=left,
        steps=steps,
        plan=Plan.objects.filter(job=job).order_by("-number").first(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What the model is asked, and the version of the prompt `plan` or `replan` that says so. None: there is none in
    force on this server, and the text that the server came with stands in."""

    messages: list[dict[str, Any]]
    version: PromptVersion | None


def wording(around: Around) -> Wording:
    """Raises InvalidInput: the version in force does not take what the server gives."""
    name = "plan" if around.round == 1 else "replan"
    try:
        version: PromptVersion | None = versions.chosen(name, None, key=str(around.job.pk))
    except InvalidInput:
        version = None
    definition = version.definition if version else shipped.definition(name)
    known = _values(around)
    values = render.filled_in(
        definition, {name: known[name] for name in definition.get("variables", ()) if name in known}
    )
    return Wording(messages=[*render.messages(definition, values), *remembered(around.job)], version=version)


def _values(around: Around) -> dict[str, Any]:
    """Of the variables that `agents.prompts.given` names."""
    job, profile = around.job, profiles.of(around.job)
    values: dict[str, Any] = {
        "goal": job.goal,
        "tools": "\n".join(_tool(tool) for tool in around.tools),
        "rules": (profile.instructions if profile else defaults.INSTRUCTIONS).strip(),
        "facts": _facts(job) + teams.told(job),
    }
    if around.round > 1:
        values |= {"round": around.round, "left": _left(around), "past": _past(around)}
    return values


def _facts(job: Job) -> str:
    if job.repository is None:
        where = "Repository: none; the workspace starts empty"
    else:
        where = (
            f"Repository: {job.repository.name}, cloned into the workspace, {job.repository.default_branch} checked out"
        )
    return f"- Requested by: {job.owner.get_username()}\n- {where}\n- Paths are relative to the root of the workspace."


def _tool(tool: Tool) -> str:
    schema = json.dumps(tool.schema.get("properties", {}), ensure_ascii=False, sort_keys=True)
    required = ", ".join(tool.schema.get("required", [])) or "nothing"
    return f"- {tool.name}: {tool.summary} Requires {required}. Arguments: {schema}"


def _left(around: Around) -> str:
    if around.last:
        return "This is the end: give `finish`."
    return f"You may plan anew {around.left} more time{'s' if around.left != 1 else ''}."


def _past(around: Around) -> str:
    parts = []
    room = TOTAL_CHARS
    for step in reversed(around.steps):  # the newest are told most fully
        text = _ended(step)
        if not text:
            continue
        text = transcript.shorten(text, max(400, min(RESULT_CHARS, room)))
        room -= len(text)
        parts.append(text)
    parts.reverse()
    plan = around.plan
    if plan is not None:
        if not {one["key"] for one in plan.steps} & around.ended:
            parts.append(f"Plan {plan.number} was not begun. Its steps: {json.dumps(plan.steps, ensure_ascii=False)}")
        for key, why in refused_by_policy(plan).items():
            parts.append(f"Step {key} of plan {plan.number} was not begun: REFUSED by policy: {why}")
    return "\n\n".join(parts)


def _ended(step: Step) -> str:
    if step.key == PREPARE or step.tool == "llm.plan":
        return f"Preparing the workspace {step.state}: {step.error}" if _bad(step) and step.key == PREPARE else ""
    ended = transcript.Ended(state=step.state, error_code=step.error_code, error=step.error, result=step.result)
    if step.tool == "plan.review":
        answer = str((step.result or {}).get("text") or step.error)
        return f"A person looked at the plan and said: {answer}"
    if step.tool == "plan.run":
        return f"The plan was not let through. {transcript.told(ended)}" if _bad(step) else ""
    if step.tool == CHECK:
        return f"Check {step.key}: {transcript.told(ended)}"
    arguments = json.dumps(step.arguments or step.template or {}, ensure_ascii=False, sort_keys=True)
    return f"Step {step.key}: {step.tool} {transcript.shorten(arguments, 1000)}\n{transcript.told(ended)}"


def _bad(step: Step) -> bool:
    return step.state != StepState.SUCCEEDED
