"""What tools have in common that ask a model: how they run, whom they ask, what their results say of what it took."""

from collections.abc import Mapping
from typing import Any, ClassVar

from agents.llm.gateway import Asking, is_scripted, targets_for
from agents.llm.values import Answer, Usage
from agents.models import Capability, Job, Step
from tools.spec import Box, Effect, Limits, Risk, RiskScore, Tool


class ModelTool(Tool):
    """Asks the model of the job that its step belongs to."""

    effect: ClassVar[Effect] = Effect.REPEATABLE
    queue: ClassVar[str] = "llm"
    limits: ClassVar[Limits] = Limits(timeout_s=900.0)
    harmless: ClassVar[str] = "changes nothing by itself"  # why its risk is low

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=(f"asks the model; {self.harmless}",))

    def question(self, box: Box, **more: Any) -> Asking:
        """Whom the step asks, and for what; `more` are other fields of Asking. Raises ThinkFailed (`no_endpoint`)."""
        job, step = job_of(box)
        targets = targets_for(job, needs={Capability.CHAT})
        given = {"turn": 1, "targets": targets, "tools": [], "functions": [], "purpose": self.name, **more}
        return Asking(job=job, step=step, box=box, **given)


def job_of(box: Box) -> tuple[Job, Step]:
    """The step that runs in `box` and its job, with what a question needs of it."""
    step = Step.objects.get(pk=box.call_id)
    beside = ("agent__route", "agent_version", "repository", "owner", "team", "conversation")
    return Job.objects.select_related(*beside).get(pk=step.job_id), step


def used(answer: Answer, spent: Usage) -> dict[str, Any]:
    """What a result's `data` says of the model, and of the tokens of all tries together."""
    return {
        "usage": {"prompt_tokens": spent.prompt_tokens, "completion_tokens": spent.completion_tokens},
        "model": answer.model,
        "scripted": is_scripted(answer),
    }


def material(text: str) -> str:
    """Untrusted text between marks that it cannot close by itself."""
    inside = text.replace("</context>", "</ context>")
    return f"<context>\n{inside}\n</context>"
