"""What the policies in force would say of steps that are not there yet."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from agents.engine import gate, grants, intake
from agents.models import Job
from tools import registry
from tools.errors import ToolError

LATER = {"effect": "later", "reason": "Decided when its arguments are known."}


def of(job: Job, steps: Sequence[intake.NewStep], *, now: datetime) -> dict[str, dict[str, Any]]:
    """{key: {effect, policy, rule, reason, risk}}; effect is allow, ask, deny or later. Writes nothing, and promises
    nothing: each step is decided on when it is about to run."""
    return {new.key: _one(job, new, now=now) for new in steps}


def _one(job: Job, new: intake.NewStep, *, now: datetime) -> dict[str, Any]:
    try:
        tool = registry.get(new.tool)
        if not grants.covers(job.grant, tool):
            return {"effect": "deny", "reason": f"{tool.name} is more than this job was given to use."}
        arguments = new.template if new.template is not None else new.arguments
        registry.validate(tool, arguments)
        step = intake.unsaved(job, new, arguments)
        decision, risk = gate.decide(job, step, now=now)
    except ToolError:  # a template is no argument yet
        return dict(LATER)
    return {
        "effect": str(decision.effect),
        "policy": decision.policy,
        "rule": decision.rule,
        "reason": decision.reason or ("No published policy allows this call." if decision.effect == "deny" else ""),
        "risk": str(risk.level),
        **({"templated": True} if new.template is not None else {}),
    }
