"""A step whose needs are met: does its condition hold, and what are its arguments now?"""

from datetime import datetime

from agents.engine import expressions
from agents.engine.transitions import move_step
from agents.models import Job, Step
from agents.states import StepState
from audit.kinds import Event
from tools import registry
from tools.errors import ToolError

BY_CONDITION = "condition"  # the error code of a step that its own condition skipped


def skipped_by_condition(state: str, error_code: str) -> bool:
    """Such a step fails nothing: neither its job nor what needs it."""
    return state == StepState.SKIPPED and error_code == BY_CONDITION


def settle_condition(job: Job, step: Step, *, now: datetime) -> bool:
    """True where the step may go on; else it was skipped, or failed since its condition could not be told."""
    if not step.condition:
        return True
    try:
        if expressions.holds(step.condition, expressions.scope(job)):
            return True
    except expressions.ExpressionFailed as error:
        fail(step, "bad_condition", f"Its condition cannot be told: {error.message}", now=now)
        return False
    move_step(
        step,
        StepState.SKIPPED,
        now=now,
        event=Event.STEP_SKIPPED,
        outcome="condition",
        payload={"condition": step.condition},
        error_code=BY_CONDITION,
        error="Skipped: its condition does not hold.",
    )
    return False


def settle_arguments(job: Job, step: Step, *, now: datetime) -> bool:
    """Resolves the step's template into its arguments and checks them; False: it failed, since they do not fit.

    What is resolved is what policies, the digest, the preview and the log see from here on.
    """
    if step.template is None or step.kind == Step.Kind.MAP:
        return True
    try:
        tool = registry.get(step.tool)
        arguments = expressions.resolve(step.template, expressions.scope(job))
        registry.validate(tool, arguments)
    except expressions.ExpressionFailed as error:
        fail(step, "bad_template", f"Its arguments cannot be told: {error.message}", now=now)
        return False
    except ToolError as error:
        fail(step, error.code, f"Its arguments, once resolved: {error.message}", now=now)
        return False
    step.arguments = arguments
    Step.objects.filter(pk=step.pk).update(arguments=arguments)
    return True


def fail(step: Step, code: str, message: str, *, now: datetime) -> None:
    """The definition does not fit what the job met: another try would end as this one did."""
    move_step(
        step,
        StepState.FAILED,
        now=now,
        event=Event.STEP_FAILED,
        outcome="failed",
        context={"code": code, "class": "bad_input"},
        payload={"error": message},
        error_class="bad_input",
        error_code=code,
        error=message[:4000],
    )
