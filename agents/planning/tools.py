"""The tools of plans: the model makes one, people look at it, policies let it through, and its steps are checked."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from django.utils import timezone

from agents.engine import planned
from agents.engine.planned import CHECK, MAKE, REVIEW, RUN
from agents.errors import InvalidInput
from agents.llm.asking import ModelTool, used
from agents.llm.complete import answered
from agents.llm.gateway import ThinkFailed
from agents.models import Job, Plan, Step
from agents.planning import changes, prompt, shape
from agents.prompts.use import noted
from tools.errors import ToolRefused
from tools.spec import Box, Effect, Result, Risk, RiskScore, Tool

_KEY = {"type": "string", "maxLength": 80}


class MakePlan(ModelTool):
    """A plan for the job's goal, or how the job ends.

    Asks by the prompt `plan`, and from the second round on by `replan`; which version stands in `data.prompt`.

    Fails with the codes of `agents.llm.errors` and: `stuck` (the same plan again), `budget_exhausted`, `invalid_answer`,
    `bad_prompt` (the version in force does not take what the server gives).
    """

    name: ClassVar[str] = MAKE
    summary: ClassVar[str] = "Asks the model for a plan to reach the goal, or for what a plan has come to."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "round": {"type": "integer", "minimum": 1},
            "review": {"type": "boolean", "description": "A person looks at each plan before it runs."},
            "max_replans": {"type": "integer", "minimum": 0, "maximum": 10},
        },
        "required": ["round", "max_replans"],
        "additionalProperties": False,
    }
    examples = ({"round": 1, "review": True, "max_replans": 3},)
    offered: ClassVar[bool] = False

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return "ask the model for a plan" if arguments["round"] == 1 else "ask the model how to go on"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        """Raises ThinkFailed."""
        asking = self.question(box)
        around = prompt.look(asking.job, round=int(arguments["round"]), max_replans=int(arguments["max_replans"]))
        asking = replace(asking, schema=shape.schema(around.tools, finish_only=around.last))
        try:
            said = prompt.wording(around)
        except InvalidInput as error:
            raise ThinkFailed("bad_prompt", error.message) from None
        by = noted(asking.step, said.version, now=timezone.now()) if said.version else None
        answer, value, spent = answered(asking, said.messages, asking.schema, check=lambda v: _wrong(around, v))
        assert value is not None
        if value.get("steps"):
            _not_again(asking.job, shape.normal(value["steps"]))
        return _result(value, {"prompt": by, **used(answer, spent)})


def _wrong(around: prompt.Around, value: dict[str, Any]) -> str:
    """What is wrong with an answer, in words for the model, or ""."""
    finish, steps = value.get("finish"), value.get("steps")
    if (finish is not None) == bool(steps):
        return "Give either steps or finish, not both."
    if finish is not None:
        return "" if finish["summary"].strip() else "finish.summary: say what was done, and what was not."
    found = shape.problems(
        shape.normal(steps or ()),
        tools={tool.name for tool in around.tools},
        ended=around.ended,
        before=[one["key"] for one in around.plan.steps] if around.plan else (),
        room=around.room,
    )
    return shape.told(found)


def _not_again(job: Job, steps: list[dict[str, Any]]) -> None:
    for earlier in Plan.objects.filter(job=job):
        if changes.same_work(earlier.steps, steps):
            raise ThinkFailed(
                "stuck", f"The agent is stuck: its plan is plan {earlier.number} again, which did not do."
            )


def _result(value: dict[str, Any], asked: dict[str, Any]) -> Result:
    finish = value.get("finish")
    data: dict[str, Any] = {"note": str(value.get("note") or ""), "finish": finish, **asked}
    if finish is not None:
        return Result(ok=True, summary=f"Finishes: {finish['summary']}"[:300], text=finish["summary"], data=data)
    steps = shape.normal(value["steps"])
    words = "\n".join(f"{one['key']}: {one['tool']}" + _after(one) for one in steps)
    summary = f"A plan of {len(steps)} step{'s' if len(steps) != 1 else ''}."
    return Result(ok=True, summary=summary, text=f"{data['note']}\n{words}".strip(), data={**data, "steps": steps})


def _after(step: Mapping[str, Any]) -> str:
    return f", after {', '.join(step['needs'])}" if step["needs"] else ""


class ReviewPlan(Tool):
    """A question to the job's owner, and to the group that the policy names: does this plan run?"""

    name: ClassVar[str] = REVIEW
    summary: ClassVar[str] = "Asks a person to look at the plan before it runs."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "plan": {"type": "integer", "minimum": 1},
            "question": {"type": "string", "minLength": 1, "maxLength": 4000},
        },
        "required": ["plan", "question"],
        "additionalProperties": False,
    }
    examples = ({"plan": 1, "question": "Does this plan run?"},)
    effect: ClassVar[Effect] = Effect.READ
    queue: ClassVar[str] = "control"
    asks_person: ClassVar[bool] = True
    offered: ClassVar[bool] = False

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("asks a person and does nothing",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"ask a person to look at plan {arguments['plan']}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        """Raises ToolRefused: a question is answered, not run."""
        raise ToolRefused("A plan is looked at by a person, not run.")


class RunPlan(Tool):
    """The plan as a whole, for policies and approvers: once it ran, the plan's steps are there."""

    name: ClassVar[str] = RUN
    summary: ClassVar[str] = "Lets a plan begin: its steps are appended to the job, and each is decided on by itself."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "plan": {"type": "integer", "minimum": 1},
            "round": {"type": "integer", "minimum": 1},
            "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "origin": {"enum": ["agent", "person"]},
            "tools": {"type": "array", "items": {"type": "string", "maxLength": 120}},
            "steps": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "key": _KEY,
                        "tool": {"type": "string", "maxLength": 120},
                        "arguments": {"type": "object"},
                        "needs": {"type": "array", "items": _KEY},
                    },
                    "required": ["key", "tool", "arguments", "needs"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["plan", "round", "sha256", "origin", "tools", "steps"],
        "additionalProperties": False,
    }
    examples = (
        {
            "plan": 1,
            "round": 1,
            "sha256": "0" * 64,
            "origin": "agent",
            "tools": ["git.status"],
            "steps": [{"key": "look", "tool": "git.status", "arguments": {}, "needs": []}],
        },
    )
    effect: ClassVar[Effect] = Effect.REPEATABLE
    queue: ClassVar[str] = "llm"
    offered: ClassVar[bool] = False

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("each step of the plan is decided on by itself",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"run plan {arguments['plan']}: {len(arguments['steps'])} steps ({', '.join(arguments['tools'])})"

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        lines = [f"{one['key']}: {one['tool']} {one['arguments']}{_after(one)}" for one in arguments["steps"]]
        return "\n".join(lines)

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        """Raises ToolRefused: the plan has been changed meanwhile, or is another one than this call says."""
        job_id = Step.objects.values_list("job_id", flat=True).get(pk=box.call_id)
        plan = Plan.objects.filter(job_id=job_id, number=arguments["plan"]).first()
        if plan is None or planned.arguments_of(plan) != dict(arguments):
            raise ToolRefused("This is not the plan that was proposed: change a plan on its page.")
        if plan.state != Plan.State.PROPOSED:
            raise ToolRefused(f"Plan {plan.number} is {plan.state}.")
        return Result(ok=True, summary=f"Plan {plan.number} begins.", data={"plan": plan.number})


class CheckStep(Tool):
    """A plan's success check: fails unless what it was given is true."""

    name: ClassVar[str] = CHECK
    summary: ClassVar[str] = "Holds a plan's step to its success check."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "holds": {"description": "The value of the check."},
            "check": {"type": "string", "maxLength": 2000},
            "of": _KEY,
        },
        "required": ["holds", "check", "of"],
        "additionalProperties": False,
    }
    examples = ({"holds": True, "check": "steps.run_tests.exit_code == 0", "of": "run_tests"},)
    effect: ClassVar[Effect] = Effect.READ
    queue: ClassVar[str] = "llm"
    offered: ClassVar[bool] = False

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("compares values",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"check {arguments['of']}: {arguments['check']}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        ok = arguments["holds"] is True
        said = "holds" if ok else f"does not hold: it gives {str(arguments['holds'])[:200]}"
        return Result(ok=ok, summary=f"The check of {arguments['of']} {said}.")


ALL = (MakePlan(), ReviewPlan(), RunPlan(), CheckStep())
