"""Which version of a prompt a step asked by."""

from datetime import datetime
from typing import Any

from agents.models import PromptUse, PromptVersion, Step


def noted(step: Step, version: PromptVersion, *, now: datetime) -> dict[str, Any]:
    """Writes it down, and gives what the step's result says of it. A later attempt of the step takes the earlier one's place."""
    PromptUse.objects.update_or_create(step=step, defaults={"job_id": step.job_id, "version": version, "at": now})
    return {"name": version.prompt.name, "version": version.number, "sha256": version.sha256}
