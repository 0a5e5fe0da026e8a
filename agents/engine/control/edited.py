"""Who has edited a step."""

from agents.models import Step

EDITORS = "edited_by"  # in the step's spec: primary keys of users


def editors(step: Step) -> list[int]:
    """Users who have edited the step."""
    return list((step.spec or {}).get(EDITORS, [])) if step.kind == Step.Kind.CALL else []
