"""Vectors for a step that searches or proposes: from the route's endpoint, else from spelling alone, and said so."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from django.conf import settings

from agents.llm import embeddings
from agents.llm.gateway import ThinkFailed, targets_for
from agents.llm.routing import Target
from agents.memory import recall, vectors
from agents.memory.recall import Scope, Vector
from agents.models import Capability, Job, Memory, Step
from tools.spec import Box

CATCH_UP = 63  # memories that get a vector of the endpoint's model beside one question: one batch
NO_VECTORS = "This PostgreSQL has no pgvector: found by words alone."


def of_question(job: Job, step: Step, box: Box, query: str, scope: Scope, *, purpose: str) -> tuple[Vector | None, str]:
    """(the question's vector, how it was made in words for people).

    The memories of the scope that have no vector by that endpoint yet get theirs on the way, as many as one batch takes.
    """
    if not vectors.available():
        return None, NO_VECTORS
    try:
        targets = targets_for(job, needs={Capability.EMBEDDINGS}, route=settings.MEMORY_ROUTE)
    except ThinkFailed:
        return recall.lexical(query), "No endpoint turns texts into vectors: found by spelling and by words."
    try:
        return _asked(job, step, box, targets, query, scope, purpose)
    except ThinkFailed as error:
        if error.code == "cancelled":
            raise
        box.log(f"No vector of the question: {error.message}\n")
        return None, f"The endpoint gave no vector ({error.code}): found by words alone."


def _asked(
    job: Job, step: Step, box: Box, targets: Sequence[Target], query: str, scope: Scope, purpose: str
) -> tuple[Vector, str]:
    waiting = _without(scope, {"", vectors.LEXICAL}, found=True)
    ask = partial(embeddings.embed, job, step, targets, purpose=purpose, cancelled=box.cancelled)
    given = ask([query, *(text for _, text in waiting)])
    model = given.model[:120]
    _keep(waiting, given.values[1:], model)
    # the endpoint has another model than when these were learned
    others = [] if waiting else _without(scope, {"", vectors.LEXICAL, model}, found=False)
    if others:
        again = ask([query, *(text for _, text in others)])
        if again.model[:120] == model:
            _keep(others, again.values[1:], model)
    caught = len(waiting) + len(others)
    told = f"; {caught} memories got their vectors on the way" if caught else ""
    return Vector(model=model, values=given.values[0]), f"Found by meaning (vectors by {model}) and by words{told}."


def _without(scope: Scope, models: set[str], *, found: bool) -> list[tuple[UUID, str]]:
    """Admitted memories of the scope whose vector's model is one of these (or none of them)."""
    rows = Memory.objects.filter(scope__in=scope.scopes, state=Memory.State.ADMITTED)
    rows = rows.filter(embedding_model__in=models) if found else rows.exclude(embedding_model__in=models)
    return list(rows.order_by("-created_at").values_list("pk", "text")[:CATCH_UP])


def _keep(rows: Sequence[tuple[UUID, str]], values: Sequence[Sequence[float]], model: str) -> None:
    vectors.keep([(pk, value) for (pk, _), value in zip(rows, values, strict=True)], model=model)
