"""States and calls in words, for pages."""

from agents.models import Step
from agents.states import JobState, StepState
from agents.web.words import first_line
from approvals.visible import visible
from tools import registry
from tools.errors import ToolError

STEP_LABELS = {
    StepState.PENDING: "planned",
    StepState.READY: "preparing",
    StepState.WAITING_APPROVAL: "waits for people",
    StepState.QUEUED: "queued",
    StepState.RUNNING: "running",
    StepState.SUCCEEDED: "succeeded",
    StepState.FAILED: "failed",
    StepState.REFUSED: "refused",
    StepState.IN_DOUBT: "in doubt",
    StepState.CANCELLED: "cancelled",
    StepState.SKIPPED: "skipped",
    StepState.COMPENSATED: "undone",
}

# Where room is short.
STEP_SHORT = STEP_LABELS | {StepState.WAITING_APPROVAL: "waiting"}

JOB_LABELS = {
    JobState.QUEUED: "queued",
    JobState.RUNNING: "running",
    JobState.WAITING: "waits for people",
    JobState.PAUSED: "paused",
    JobState.COMPENSATING: "undoing",
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
    JobState.COMPENSATED: "undone",
}


UNDER_WAY = "under way"


def under_way(step: Step) -> bool:
    """A map that waits for its chunks, or a step that waits for its job: pending, but begun."""
    return step.state == StepState.PENDING and step.ready_at is not None and step.kind in (Step.Kind.MAP, Step.Kind.JOB)


def step_label(step: Step, *, short: bool = False) -> str:
    """The step's state in words."""
    labels = STEP_SHORT if short else STEP_LABELS
    return UNDER_WAY if under_way(step) else labels[StepState(step.state)]


def step_badge(step: Step) -> str:
    """The CSS class of a step's badge. A step's `pending` is a plan, an approval's `pending` a call to act."""
    if under_way(step):
        return "badge-running"
    return "badge-planned" if step.state == StepState.PENDING else f"badge-{step.state}"


def describe(step: Step) -> str:
    """The call in one line, as its tool writes it; the tool's name where the tool is gone or refuses."""
    try:
        text = registry.get(step.tool).describe(step.arguments)
    except (ToolError, LookupError, TypeError, ValueError):  # arguments of an older version of the tool
        text = ""
    return first_line(visible((text or step.tool)[:2000]))


def command(step: Step) -> str:
    """The whole call as its tool writes it, hidden characters shown; "" where that says no more than the name."""
    try:
        text = registry.get(step.tool).describe(step.arguments)
    except (ToolError, LookupError, TypeError, ValueError):
        return ""
    return "" if text == step.tool else visible(text)
