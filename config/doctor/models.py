"""Endpoints of models and the routes to them, as they were entered."""

from collections.abc import Iterator

from agents.llm import checking
from agents.models import ModelEndpoint, ModelRoute
from config.doctor.finding import Finding, ok, warn

NAME = "model endpoints"


def endpoints() -> Iterator[Finding]:
    """Nobody is asked, and no key is read."""
    found = list(checking.problems())
    if found:
        yield warn(NAME, " ".join(found), "Mend it in the admin, under Model endpoints and Model routes.")
    enabled = ModelEndpoint.objects.filter(enabled=True).count()
    if enabled and not ModelRoute.objects.filter(is_default=True).exists():
        yield warn(
            NAME,
            "no route is the default: agents that name none ask the endpoint of OPENAI_BASE_URL",
            "Mark a route as the default in the admin.",
        )
    elif not found:
        yield ok(NAME, f"{enabled} in use" if enabled else "none: all calls go to OPENAI_BASE_URL")
